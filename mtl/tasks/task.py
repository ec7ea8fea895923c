"""Tasks and the YAML files that describe them. No torch here."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, Self, cast

from jsonargparse import ArgumentError, ArgumentParser

from mtl.bounds import Count, check_bounds
from mtl.errors import NO_TASKS, UserError, explain_parse_error, reject_unknown
from mtl.tasks.classification import Classification
from mtl.tasks.fields import Prompt, Source, Splits
from mtl.tasks.kinds import TaskKind
from mtl.tasks.multiple_choice import MultipleChoice
from mtl.tasks.regression import Regression
from mtl.tasks.tags import Scheme
from mtl.tasks.task_file import read_task_file, words_as_text
from mtl.tasks.token_labels import TokenLabels, WordTags
from mtl.user_files import expand_path

Truncation = Literal["right", "left", "head_tail"]
Metric = Literal[
    "accuracy",
    "f1",
    "matthews",
    "pearson",
    "spearman",
    "entity_f1",
    "entity_precision",
    "entity_recall",
    "token_accuracy",
    "exact_match",
]

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
    `range` a regression, `tokens` (instead of `texts`) labels of words, `choices` (instead of
    `classes`) a multiple choice.

    Args:
        name: The task's name in tables, checkpoints and files: letters, digits, `_` and `-`.
        texts: One text column, or the two of a pair.
        source: Where the examples come from.
        label: The label column.
        classes: Names of the classes. The label column holds either these names or their indices,
            counted from 0.
        range: Lowest and highest value of a regression target.
        splits: Names of the splits in the source.
        metrics: The task's official metrics; its score is their mean. Default: accuracy for
            classification and multiple choice, Pearson and Spearman for regression, `entity_f1` for
            labels of words (`token_accuracy` if `tags` is `plain`). `f1` is that of the second
            class if there are two classes, else the mean over classes.
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
    classes: list[str] = field(default_factory=list)
    range: tuple[float, float] | None = None
    splits: Splits = field(default_factory=Splits)
    metrics: list[Metric] = field(default_factory=list)
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
        if len({*self.texts, self.label}) <= len(self.texts):
            raise ValueError(
                f"texts {self.texts} and label {self.label!r} name a column twice; each column is "
                "either a text or the label"
            )
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
        if unfit := [metric for metric in self.metrics if metric not in self.kind.metrics]:
            raise ValueError(
                f"metrics {unfit} do not fit a {self.kind.name} task; choose from "
                f"{sorted(self.kind.metrics)}"
            )
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
        return [self.tokens, self.label] if self.tokens else [self.label]

    @cached_property
    def kind(self) -> TaskKind:
        """What the task predicts: a class, a number, a tag for each word, or a candidate."""
        if self.choices:
            return MultipleChoice(self.choices)
        if self.tokens:
            kind = WordTags if self.tags == "plain" else TokenLabels
            return kind(self.classes, self.tags, self.label_all_subtokens, self.window_overlap)
        return Regression(*self.range) if self.range else Classification(self.classes)

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
        if isinstance(value, dict):
            return cls._parse(dict(value), Path(), "the task given inline")
        path, content = read_task_file(cast(str | Path, value))
        return cls._parse(content, path.parent, str(path))

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


def check_tasks(tasks: "Sequence[Task | dict[str, Any]]") -> list[Task]:
    """Reads a list of tasks and checks that it is not empty and that names differ.

    Args:
        tasks: Tasks, or mappings of their fields as a checkpoint holds them.

    Raises:
        UserError: If there is no task, or two names are equal, ignoring case.
    """
    read = [Task.read(task) for task in tasks]
    if not read:
        raise UserError(NO_TASKS)
    names = [task.name.lower() for task in read]
    if repeated := sorted({task.name for task in read if names.count(task.name.lower()) > 1}):
        raise UserError(
            f"tasks: the name {repeated[0]!r} occurs twice; give every task its own name"
        )
    return read
