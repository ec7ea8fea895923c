"""Tasks and the YAML files that describe them. No torch here."""

from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, Self

from jsonargparse import ArgumentError, ArgumentParser

from mtl.bounds import Count, check_bounds
from mtl.errors import UserError, reject_unknown
from mtl.parse_errors import explain_parse_error
from mtl.tasks.classification import Classification
from mtl.tasks.fields import Prompt, Source, Splits
from mtl.tasks.kinds import TaskKind
from mtl.tasks.multi_label import MultiLabel
from mtl.tasks.multiple_choice import MultipleChoice
from mtl.tasks.regression import Regression
from mtl.tasks.tags import Scheme
from mtl.tasks.task_checks import check_fields, check_inputs
from mtl.tasks.task_file import group_members, read_task_file, words_as_text
from mtl.tasks.token_labels import TokenLabels, WordTags
from mtl.user_files import expand_path

Truncation = Literal["right", "left", "head_tail"]


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
        check_inputs(self)
        if self.tokens:
            object.__setattr__(self, "texts", [self.tokens])
        if self.choices:
            object.__setattr__(self, "classes", list(self.choices))
        check_fields(self)
        if not self.metrics:
            object.__setattr__(self, "metrics", list(self.kind.default_metrics))

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
        for item in fields(cls):
            empty = item.name in content and content[item.name] is None and item.default is not None
            if empty or (item.name == "metrics" and content.get(item.name) == []):
                raise UserError(f"{where}: {item.name} is empty; fill it in, or remove it")
        try:
            parsed = _parser().parse_object({"task": content})
            source = parsed.task.source
            if source and source.path:
                path = expand_path(source.path)
                source.path = str(path if path.is_absolute() else (folder / path).resolve())
            return _parser().instantiate(parsed).task
        except (ArgumentError, UserError, ValueError, TypeError) as error:
            message = " ".join(str(error).split()).replace('Parser key "task.', 'Parser key "')
            names = [
                f"{prefix}{item.name}" for prefix, part in _PARTS.items() for item in fields(part)
            ]
            raise UserError(f"{where}: {explain_parse_error(message, names)}") from error


# The dataclasses of a task's fields, by what precedes the names of their own fields.
_PARTS = {"": Task, "source.": Source, "splits.": Splits, "prompt.": Prompt}


@cache
def _parser() -> ArgumentParser:
    """The parser class of the command line: task files get the same checks of types and names."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Task, "task")
    return parser
