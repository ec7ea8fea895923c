"""A task is data: columns, classes, metrics, prompt, and where its rows come from. Read from YAML, no torch."""

import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from mtl.errors import UserError, did_you_mean, explain_parse_error
from mtl.tasks.kinds import Classification, Regression, TaskKind

Metric = Literal["accuracy", "f1", "matthews", "pearson", "spearman"]
Format = Literal["plain", "glue", "lmbff", "mft", "cs224n"]

# A task's name becomes a name inside torch.nn.ModuleDict, which has these already (tests/test_tasks.py compares).
RESERVED_NAMES = frozenset(
    "add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double dump_patches eval "
    "extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu items keys "
    "load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters pop "
    "register_backward_hook register_buffer register_forward_hook register_forward_pre_hook "
    "register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook "
    "register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook "
    "register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to to_empty "
    "smart_apply train training type update values xpu zero_grad".split()
)


@dataclass(frozen=True)
class Source:
    """Where a task's rows come from: a data set on the hub, or local files.

    Args:
        hub: Name of a data set on the Hugging Face hub, or a local directory in the hub's layout.
        config: The hub data set's configuration, such as `cola` of `nyu-mll/glue`.
        revision: The hub data set's branch, tag or commit, to pin what is read.
        path: Local folder with a file per split; a relative one counts from the task's YAML file.
        format: How local text files are laid out. `plain`: .jsonl, .csv, .tsv (each also .gz) or .parquet, columns by
            name. `glue`: the official GLUE download's .tsv. `lmbff`: a k-shot folder of LM-BFF.
            `mft`: text, domain, label between tabs, quoted as in CSV. `cs224n`: the course's tab-separated .csv.
            Files that name their own columns (.jsonl, .parquet) are read as such in every format.
        files: File name of a split where it is not the split's own name, such as `{validation: dev_set.csv}`.
        folder: Folder under `--data.root`; the task's name where absent. Case and punctuation do not matter.
        columns: The source's name of a column where it is not the task's, such as `{sentence: text}`.
        labels: The class meant by a value in the label column, where it is neither a class's name nor its number.
        where: Only rows with these values, such as `{genre: fiction}`.
    """

    hub: str | None = None
    config: str | None = None
    revision: str | None = None
    path: str | None = None
    format: Format = "plain"
    files: dict[str, str] = field(default_factory=dict)
    folder: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.hub and self.path:
            raise ValueError(f"give hub ({self.hub!r}) or path ({self.path!r}), not both")


@dataclass(frozen=True)
class Splits:
    """Names of a task's splits in its source.

    Args:
        train: The rows to train on.
        validation: The rows that select the best checkpoint; several where a task has several (MNLI).
        test: The rows that `mtl test` reports on; needs labels.
        predict: The rows that `mtl predict` writes predictions for; those of `test` where absent.
    """

    train: str = "train"
    validation: list[str] = field(default_factory=lambda: ["validation"])
    test: list[str] = field(default_factory=lambda: ["test"])
    predict: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Prompt:
    """A cloze question for methods that fill in a masked word.

    Args:
        template: Text with the task's columns in braces and one `{mask}`, such as `"{sentence} It was {mask}."`;
            `{premise-}` drops a last punctuation mark, `{hypothesis:lower}` makes the first letter small. Or in LM-BFF's
            notation, `"*cls**sent_0*_It_was*mask*.*sep+*"`.
        words: The word that stands for each class; for regression, the words for the `low` and the `high` end.
        limits: Longest text of a column in tokens, such as `{sentence: 110}`.
        max_length: Longest row in tokens, in place of `--data.max_length`.
        exact: Whether `{premise-}` drops the last character whatever it is, as LM-BFF's release does.
    """

    template: str
    words: dict[str, str]
    limits: dict[str, int] = field(default_factory=dict)
    max_length: int | None = None
    exact: bool = False


@dataclass(frozen=True)
class Task:
    """A data set with a question.

    One text column makes a single-sentence task, two make a pair; `classes` make a classification, `range` a regression.

    Args:
        name: The task's name in tables, checkpoints and files: letters, digits, `_` and `-`.
        texts: One text column, or the two of a pair.
        source: Where the rows come from.
        label: The label column.
        classes: Names of the classes; a label may be a name or the number of its place here, counted from 0.
        range: Lowest and highest value of a regression target.
        splits: Names of the splits in the source.
        metrics: The task's official metrics; its score is their mean. Accuracy, or Pearson and Spearman, where absent. `f1` is
            that of the second class where there are two, else the mean over classes.
        prompt: For methods that want one.
        drop: Known faults of the data whose rows are left out and counted, instead of being refused: `incomplete` (a
            text is missing or empty), `unlabelled` (no label, or -1).
        version: Raised when scores could change; results carry it.
        licence: Terms of the data, for people; the card of an exported model carries them.

    Raises:
        ValueError: If the fields contradict one another; the message says which and what to write instead.
    """

    name: str
    texts: list[str]
    source: Source = field(default_factory=Source)
    label: str = "label"
    classes: list[str] = field(default_factory=list)
    range: tuple[float, float] | None = None
    splits: Splits = field(default_factory=Splits)
    metrics: list[Metric] = field(default_factory=list)
    prompt: Prompt | None = None
    drop: list[Literal["incomplete", "unlabelled"]] = field(default_factory=list)
    version: int = 1
    licence: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", self.name):
            raise ValueError(
                f"name {self.name!r}: use letters, digits, '_' and '-', beginning with a letter"
            )
        if self.name in RESERVED_NAMES:
            raise ValueError(
                f"name {self.name!r} is taken by torch.nn.ModuleDict; choose another, such as {self.name}_task"
            )
        if self.name == "row":
            raise ValueError("name 'row' is what predictions call a row's number; choose another")
        if len(self.texts) not in (1, 2):
            raise ValueError(f"texts {self.texts}: name one text column, or the two of a pair")
        if bool(self.classes) == bool(self.range):
            raise ValueError("give either classes (classification) or range (regression)")
        if self.classes and (len(self.classes) < 2 or len(set(self.classes)) < len(self.classes)):
            raise ValueError(f"classes {self.classes}: name at least two different ones")
        if self.range and not self.range[0] < self.range[1]:
            raise ValueError(f"range {list(self.range)}: the lowest value comes first")
        if unfit := [metric for metric in self.metrics if metric not in self.kind.metrics]:
            raise ValueError(
                f"metrics {unfit} do not fit a {self.kind.name} task; choose from {sorted(self.kind.metrics)}"
            )
        for label in self.source.labels.values():
            if label not in self.classes:
                raise ValueError(
                    f"source.labels: {label!r} is none of the classes {self.classes}.{did_you_mean(label, self.classes)}"
                )
        if self.prompt:
            self._check_prompt(self.prompt)
        if not self.metrics:
            object.__setattr__(self, "metrics", list(self.kind.default_metrics))
        if not self.splits.predict:
            object.__setattr__(
                self, "splits", Splits(**{**vars(self.splits), "predict": self.splits.test})
            )

    def _check_prompt(self, prompt: Prompt) -> None:
        if not prompt.template.startswith("*"):  # LM-BFF's notation is checked where it is read
            fields = re.findall(r"{([^}]*)}", prompt.template)
            if fields.count("mask") != 1:
                raise ValueError(
                    f"prompt.template {prompt.template!r}: write {{mask}} exactly once"
                )
            names = {re.sub(r"-?(:lower)?$", "", field) for field in fields} - {"mask"}
            if unknown := sorted(names - set(self.texts)):
                raise ValueError(
                    f"prompt.template: {{{unknown[0]}}} is none of the texts {self.texts}.{did_you_mean(unknown[0], self.texts)}"
                )
        if unknown := sorted(set(prompt.limits) - set(self.texts)):
            raise ValueError(
                f"prompt.limits: {unknown[0]!r} is none of the texts {self.texts}.{did_you_mean(unknown[0], self.texts)}"
            )
        wanted = list(self.kind.prompt_words)
        if sorted(prompt.words) != sorted(wanted):
            raise ValueError(
                f"prompt.words: give a word for each of {wanted}, not for {list(prompt.words)}"
            )

    @property
    def pair(self) -> bool:
        """Whether a row has two texts."""
        return len(self.texts) == 2

    @property
    def regression(self) -> bool:
        """Whether the label is a number rather than a class."""
        return not self.classes

    @cached_property
    def kind(self) -> TaskKind:
        """What the task predicts: a class, or a number."""
        return Regression(*self.range) if self.range else Classification(self.classes)

    @property
    def outputs(self) -> int:
        """Numbers a head gives for a row: one for each class, or one for regression."""
        return len(self.classes) or 1

    @classmethod
    def read(cls, value: "str | Path | dict[str, Any] | Task") -> Self:
        """A task from a YAML file (relative to the working directory) or from a mapping of its fields.

        Raises:
            UserError: If the file or a field cannot be used; the message names the file and the field.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, dict):
            return cls._parse(dict(value), Path(), "the task given inline")
        path = Path(str(value)).resolve()
        try:
            fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            beside = (
                [file.name for file in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
            )
            raise UserError(
                f"{path}: there is no such task file.{did_you_mean(path.name, beside)}"
            ) from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"{path}: cannot be read as YAML: {error}") from error
        if not isinstance(fields, dict):
            raise UserError(
                f"{path}: a task file holds fields such as `name:` and `texts:`, this one holds {fields!r}"
            )
        return cls._parse(fields, path.parent, str(path))

    @classmethod
    def _parse(cls, fields: dict[str, Any], folder: Path, where: str) -> Self:
        classes = fields.get("classes")
        if isinstance(classes, list) and (
            bare := [name for name in classes if isinstance(name, bool)]
        ):
            raise UserError(
                f'{where}: classes: YAML reads a bare no, yes, on or off as {bare[0]}; write "no" in quotes'
            )
        if isinstance(classes, list):
            fields = {**fields, "classes": [str(name) for name in classes]}
        try:
            parsed = _parser().parse_object({"task": fields})
            source = parsed.task.source
            if source and source.path and not Path(source.path).is_absolute():
                source.path = str((folder / source.path).resolve())
            return _parser().instantiate(parsed).task
        except (ArgumentError, ValueError, TypeError) as error:
            message = " ".join(str(error).split()).replace('Parser key "task.', 'Parser key "')
            names = [
                field
                for part in (Task, Source, Splits, Prompt)
                for field in part.__dataclass_fields__
            ]
            raise UserError(f"{where}: {explain_parse_error(message, names)}") from error


@cache
def _parser() -> ArgumentParser:
    """The command line's own typed parser, so that task files get its checks of types and names."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Task, "task")
    return parser


def check_tasks(tasks: "list[Task] | list[dict[str, Any]]") -> list[Task]:
    """Tasks from objects or mappings (as a checkpoint holds them), at least one, no name twice.

    Raises:
        UserError: If there is none, or a name occurs twice (names that differ in case only count as the same).
    """
    read = [Task.read(task) for task in tasks]
    if not read:
        raise UserError("no tasks: name at least one, such as --tasks+=configs/tasks/sst2.yaml")
    names = [task.name.lower() for task in read]
    if twice := sorted({task.name for task in read if names.count(task.name.lower()) > 1}):
        raise UserError(
            f"tasks: the name {twice[0]!r} occurs twice; every task needs a name of its own"
        )
    return read
