"""Tasks and the YAML files that describe them. No torch here."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, Self

from jsonargparse import ArgumentError, ArgumentParser

from mtl.bounds import Count, check_bounds
from mtl.errors import (
    NO_TASKS,
    UserError,
    did_you_mean,
    explain_parse_error,
    reject_unknown,
)
from mtl.tasks.classification import Classification
from mtl.tasks.fields import Prompt, Source, Splits
from mtl.tasks.kinds import ERRORS, TaskKind
from mtl.tasks.multi_label import MultiLabel
from mtl.tasks.multiple_choice import MultipleChoice
from mtl.tasks.regression import Regression
from mtl.tasks.tags import Scheme
from mtl.tasks.task_file import group_members, read_task_file, words_as_text
from mtl.tasks.token_labels import TokenLabels, WordTags
from mtl.user_files import expand_path

Truncation = Literal["right", "left", "head_tail"]
# The name of a metric, or the import path of a class of torchmetrics.
TORCHMETRICS_CLASS = re.compile(r"torchmetrics\.(classification|regression)(\.\w+)*\.[A-Z]\w*")

# Task names become keys of torch.nn.ModuleDict, which has these attributes
# (tests/tasks/test_task.py compares).
RESERVED_NAMES = frozenset(
    "add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double "
    "dump_patches eval "
    "extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu "
    "items keys "
    "load_state_dict modules mtia named_buffers named_children named_modules named_parameters "
    "parameters pop "
    "register_backward_hook register_buffer register_forward_hook register_forward_pre_hook "
    "register_full_backward_hook register_full_backward_pre_hook "
    "register_load_state_dict_post_hook "
    "register_load_state_dict_pre_hook register_module register_parameter "
    "register_state_dict_post_hook "
    "register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory "
    "state_dict to to_empty "
    "smart_apply train training type update values xpu zero_grad".split()
)


@dataclass(frozen=True)
class Task:
    """A data set and what to predict from it.

    One text column makes a single-sentence task, two make a pair; `classes` make a classification,
    `classes` with `labels` a multi-label task, `range` a regression, `tokens` (instead of `texts`)
    labels of words, `choices` (instead of `classes`) a multiple choice.

    Args:
        name: The task's name in tables, checkpoints and files: letters, digits, `_` and `-`.
        texts: One text column, or the two of a pair.
        source: Where the examples come from.
        label: The label column.
        labels: Instead of `label`, for several classes at once: the column with each example's
            classes (a list of names or indices, a list with 0 or 1 for each class, or a text such
            as `legal, vip`); or one 0/1 column for each class.
        separator: Separates the classes in the texts of `labels`.
        classes: Names of the classes. The label column holds either these names or their indices,
            counted from 0.
        range: Lowest and highest value of a regression target.
        splits: Names of the splits in the source.
        metrics: The task's official metrics; its score is their mean, without errors such as
            `mae`. Default: accuracy for classification and multiple choice, Pearson and Spearman
            for regression, micro and macro F1 for multi-label, `entity_f1` for labels of words
            (`token_accuracy` if `tags` is `plain`). `f1` is that of the second class if there are
            two classes, else the mean over classes. Also the import path of a class in
            `torchmetrics.classification` or `torchmetrics.regression`.
        thresholds: For `labels`: a class is predicted if its probability is at least 0.5 (`fixed`),
            or the threshold with the best F1 on the validation examples (`tuned`).
        prompt: The cloze prompt, for methods that need one.
        drop: Known faults of the data: examples with such a fault are dropped and counted instead
            of refused. `incomplete` (a text is missing or empty), `unlabelled` (there is no label).
        max_length: Maximum length of an example in tokens, instead of `--data.max_length`. A prompt
            has a maximum length of its own, `prompt.max_length`.
        truncation: What is cut from an example that is too long: the end of its longest text
            (`right`), the start (`left`), or the middle (`head_tail`: a quarter of the kept tokens
            is from the start). Does not apply to prompts.
        choices: Columns with candidate texts, one of which is to be chosen. The label is the name
            of a column, or its index, counted from 0. Give it instead of `classes`.
        tokens: The text column of a task that labels words: a list of words, or words separated by
            white space. Give it instead of `texts`.
        tags: How the label column of such a task marks entities, whose types are `classes`: a tag
            for each word (`IOB2`, `IOB1` or `IOBES`), or `spans` of characters, [start, end, type].
            `plain`: the classes are tags of words, such as parts of speech.
        label_all_subtokens: Whether all sub-tokens of a word are trained with its tag, instead of
            the first. Predictions are those of the first.
        window_overlap: Divides texts that are too long into windows that share this number of
            tokens, instead of cutting them. Each word is predicted in the window where it has most
            context.
        version: Raised when scores could change; results carry it.
        licence: Terms of use of the data; the card of an exported model quotes them.

    Raises:
        UserError: If a field names an unknown class or column.
        ValueError: If the fields contradict one another.
    """

    name: str
    texts: list[str] = field(default_factory=list)
    source: Source = field(default_factory=Source)
    label: str = "label"
    labels: str | list[str] | None = None
    separator: str = ","
    classes: list[str] = field(default_factory=list)
    range: tuple[float, float] | None = None
    splits: Splits = field(default_factory=Splits)
    metrics: list[str] = field(default_factory=list)
    thresholds: Literal["fixed", "tuned"] = "fixed"
    prompt: Prompt | None = None
    drop: list[Literal["incomplete", "unlabelled"]] = field(default_factory=list)
    max_length: Count | None = None
    truncation: Truncation = "right"
    choices: list[str] = field(default_factory=list)
    tokens: str | None = None
    tags: Scheme = "IOB2"
    label_all_subtokens: bool = False
    window_overlap: Count | None = None
    version: int = 1
    licence: str | None = None

    def __post_init__(self) -> None:
        check_bounds(Task, vars(self))
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", self.name):
            raise ValueError(
                f"name {self.name!r}: use letters, digits, '_' and '-', beginning with a letter"
            )
        if self.name in RESERVED_NAMES:
            raise ValueError(
                f"name {self.name!r} is taken by torch.nn.ModuleDict; choose another, such as "
                f"{self.name}_task"
            )
        if self.name == "row":
            raise ValueError(
                "name 'row' is the key of the row number in prediction files; choose another"
            )
        self._check_tokens()
        self._check_choices()
        if len(self.texts) not in (1, 2):
            raise ValueError(f"texts {self.texts}: name one text column, or the two of a pair")
        columns = [self.label] if self.tokens else self.label_columns
        if len(named := [*self.texts, *columns]) > len(set(named)):
            raise ValueError(
                f"texts {self.texts} and label {', '.join(map(repr, columns))} name a column "
                "twice; each column is either a text or the label"
            )
        self._check_labels()
        if bool(self.classes) == bool(self.range):
            raise ValueError("give either classes (classification) or range (regression)")
        fewest = 1 if self.tokens and self.tags != "plain" else 2
        if self.classes and (
            len(self.classes) < fewest or len(set(self.classes)) < len(self.classes)
        ):
            raise ValueError(f"classes {self.classes}: name at least two different classes")
        if spaced := [name for name in self.classes if name != name.strip()]:
            raise ValueError(f"classes: {spaced[0]!r} begins or ends with white space; remove it")
        if self.range and not -math.inf < self.range[0] < self.range[1] < math.inf:
            raise ValueError(
                f"range {list(self.range)}: give two finite numbers, the lowest value first"
            )
        self._check_metrics()
        if self.source.labels and self.range:
            raise ValueError("source.labels maps values to classes; a regression task has none")
        reject_unknown("source.labels", "class", self.source.labels.values(), self.classes)
        self.source.check(self.splits.names, [*self.text_columns, *self.label_columns], self.texts)
        if self.prompt:
            self.prompt.check(self.texts, self.kind.prompt_words)
        if not self.metrics:
            object.__setattr__(self, "metrics", list(self.kind.default_metrics))

    def _check_choices(self) -> None:
        """Checks the columns with candidate texts, which are the task's classes."""
        if not self.choices:
            return
        if self.tokens or self.range or self.prompt or self.classes not in ([], self.choices):
            raise ValueError("choices are the classes: omit classes, range, tokens and prompt")
        if self.truncation != "right":
            raise ValueError("choices: the longer text is cut at its end; omit truncation")
        object.__setattr__(self, "classes", list(self.choices))

    def _check_tokens(self) -> None:
        """Checks the fields that are for token labels; the text column is `tokens`."""
        if self.tokens is None:
            given = {
                "tags": self.tags != "IOB2",
                "label_all_subtokens": self.label_all_subtokens,
                "window_overlap": self.window_overlap is not None,
            }
            if names := [name for name, is_given in given.items() if is_given]:
                raise ValueError(f"{names[0]} is for a task that labels words: give tokens as well")
            return
        if self.texts not in ([], [self.tokens]):
            raise ValueError(f"tokens {self.tokens!r} is the text column; omit texts {self.texts}")
        object.__setattr__(self, "texts", [self.tokens])
        if self.range or self.prompt:
            raise ValueError("a task that labels words has classes; omit range and prompt")
        if self.label_all_subtokens and self.tags == "IOBES":
            raise ValueError("label_all_subtokens: IOBES has no tag for the rest of a word")
        if self.window_overlap and self.truncation != "right":
            raise ValueError("window_overlap keeps complete texts; omit truncation")

    def _check_labels(self) -> None:
        """Checks the fields of a multi-label task."""
        if self.labels is not None and (self.tokens or self.choices):
            raise ValueError("labels is for tasks that classify texts; omit tokens and choices")
        if self.labels is None:
            if self.thresholds != "fixed" or self.separator != ",":
                raise ValueError("thresholds and separator are for tasks with `labels`; omit them")
            return
        if self.range or not self.classes:
            raise ValueError("labels: name the classes of the task in `classes`")
        if isinstance(self.labels, list) and len(self.labels) != len(self.classes):
            raise ValueError(
                f"labels: give one column for each of the {len(self.classes)} classes, not "
                f"{len(self.labels)}; or the name of one column"
            )
        if not self.separator:
            raise ValueError("separator is empty; give the text between two classes, such as ','")
        if self.source.labels and isinstance(self.labels, list):
            raise ValueError("source.labels maps values to classes; 0/1 columns have none")

    def _check_metrics(self) -> None:
        known = self.kind.metrics
        for metric in self.metrics:
            if "." in metric and self.tokens:
                raise ValueError(f"metrics: {metric!r} does not fit a task that labels words")
            if "." in metric and not TORCHMETRICS_CLASS.fullmatch(metric):
                raise ValueError(
                    f"metrics: {metric!r} is not a class in torchmetrics.classification or "
                    "torchmetrics.regression, the only classes that a task can name"
                )
            if "." not in metric and metric not in known:
                raise ValueError(
                    f"metrics [{metric!r}] do not fit a {self.kind.name} task; choose from "
                    f"{sorted(known)}.{did_you_mean(metric, known)}"
                )
        if self.metrics and not set(self.metrics) - ERRORS:
            raise ValueError(
                f"metrics {self.metrics}: smaller values of these are better, so they cannot make "
                f"a score; add one of {sorted(set(known) - ERRORS)}"
            )

    @property
    def pair(self) -> bool:
        """Whether an example has two texts."""
        return len(self.text_columns) == 2

    @property
    def text_columns(self) -> list[str]:
        """The columns that an example's texts are read from: its texts, then its candidates."""
        return [*self.texts, *self.choices]

    @property
    def label_columns(self) -> list[str]:
        """The columns that the task's label is read from."""
        if self.tokens:
            return [self.tokens, self.label]
        if self.labels is None:
            return [self.label]
        return [self.labels] if isinstance(self.labels, str) else self.labels

    @cached_property
    def kind(self) -> TaskKind:
        """What the task predicts: a class, several, a number, a tag for each word, a candidate."""
        if self.choices:
            return MultipleChoice(self.choices)
        if self.tokens:
            kind = WordTags if self.tags == "plain" else TokenLabels
            return kind(self.classes, self.tags, self.label_all_subtokens, self.window_overlap)
        if self.range:
            return Regression(*self.range)
        if self.labels is None:
            return Classification(self.classes)
        columns = self.labels if isinstance(self.labels, list) else None
        return MultiLabel(self.classes, columns, self.separator)

    @classmethod
    def read(cls, value: "str | Path | dict[str, Any] | Task") -> Self:
        """Reads a task from a YAML file or a mapping of its fields; returns a task unchanged.

        A name such as `tasks/sst2` stands for the file that ships with the package, unless there is
        a local file of that name.

        Raises:
            UserError: If the file or a field cannot be used; the message names the file and the
                field.
        """
        if isinstance(value, cls):
            return value
        tasks = cls.read_all(value)
        if len(tasks) > 1:
            names = ", ".join(task.name for task in tasks)
            file = "FILE" if isinstance(value, dict) else value
            raise UserError(
                f"{file} has several tasks: {names}; name one of them, such as "
                f"{file}#{tasks[0].name}"
            )
        return tasks[0]

    @classmethod
    def read_all(cls, value: "str | Path | dict[str, Any] | Task") -> list[Self]:
        """Reads a task, or all tasks of a file with several (`FILE#NAME` reads one of these).

        Raises:
            UserError: As for `read`.
        """
        if isinstance(value, cls):
            return [value]
        if isinstance(value, dict):
            return cls._parse_all(dict(value), Path(), "the task given inline")
        file, _, name = str(value).partition("#")
        path, content = read_task_file(file)
        tasks = cls._parse_all(content, path.parent, str(path))
        if not name:
            return tasks
        reject_unknown(str(path), "task", [name], [task.name for task in tasks])
        return [task for task in tasks if task.name == name]

    @classmethod
    def _parse_all(cls, content: dict[str, Any], folder: Path, where: str) -> list[Self]:
        if "tasks" not in content:
            return [cls._parse(content, folder, where)]
        return [
            cls._parse(member, folder, f"{where}, task {member['name']!r}")
            for member in group_members(content, where)
        ]

    @classmethod
    def _parse(cls, content: dict[str, Any], folder: Path, where: str) -> Self:
        content = words_as_text(content, where)
        try:
            parsed = _parser().parse_object({"task": content})
            source = parsed.task.source
            if source and source.path:
                path = expand_path(source.path)
                source.path = str(path if path.is_absolute() else (folder / path).resolve())
            return _parser().instantiate(parsed).task
        except (ArgumentError, UserError, ValueError, TypeError) as error:
            message = " ".join(str(error).split()).replace('Parser key "task.', 'Parser key "')
            names = [item.name for part in (Task, Source, Splits, Prompt) for item in fields(part)]
            raise UserError(f"{where}: {explain_parse_error(message, names)}") from error


@cache
def _parser() -> ArgumentParser:
    """The parser class of the command line: task files get the same checks of types and names."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Task, "task")
    return parser


@dataclass(frozen=True)
class TaskGroup:
    """The tasks of one file.

    Args:
        tasks: The tasks.
    """

    tasks: list[Task]


def read_task_or_group(value: Any) -> Task | TaskGroup:
    """Reads a task, or the tasks of a file with several.

    Raises:
        UserError: If the file or a field cannot be used.
    """
    if isinstance(value, TaskGroup):
        return value
    if isinstance(value, dict) and isinstance(value.get("tasks"), list):
        return TaskGroup([Task.read(each) for each in value["tasks"]])
    tasks = Task.read_all(value)
    return tasks[0] if len(tasks) == 1 else TaskGroup(tasks)


def each_task(value: Any) -> list[Task]:
    """A task, or the tasks of a group."""
    read = read_task_or_group(value)
    return read.tasks if isinstance(read, TaskGroup) else [read]


def check_tasks(tasks: "Sequence[Task | TaskGroup | dict[str, Any]]") -> list[Task]:
    """Reads a list of tasks and checks that it is not empty and that names differ.

    Args:
        tasks: Tasks, or mappings of their fields as a checkpoint holds them.

    Raises:
        UserError: If there is no task, or two names are equal, ignoring case.
    """
    read = [task for each in tasks for task in each_task(each)]
    if not read:
        raise UserError(NO_TASKS)
    names = [task.name.lower() for task in read]
    if repeated := sorted({task.name for task in read if names.count(task.name.lower()) > 1}):
        raise UserError(
            f"tasks: the name {repeated[0]!r} occurs twice; give every task its own name"
        )
    return read
