"""Warnings about data that can be trained on, but whose scores may not mean what they seem to."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import rank_zero_only

from mtl.data.evaluations import SELECTION_STAGES, Evaluation
from mtl.data.split_examples import SplitExamples
from mtl.data.unencoded import Memory, UnencodedOpener
from mtl.errors import UserError
from mtl.tasks import Task

if TYPE_CHECKING:
    from mtl.data.task_data import TaskDataModule

# A class with fewer training examples is reported.
FEW_EXAMPLES = 5
# Set while the runs of a comparison train: the comparison has printed the warnings.
SILENT = "MTL_NO_DATA_WARNINGS"

_log = logging.getLogger("lightning.pytorch.mtl")


class NamedSplit(NamedTuple):
    """Examples, and what their split is called in a warning."""

    name: str
    examples: SplitExamples

    @property
    def title(self) -> str:
        """The name and the file."""
        return f"{self.name} ({self.examples.report.where})"


@contextmanager
def without_data_warnings() -> Iterator[None]:
    """Context manager: no warnings about data in this process and those that it starts."""
    before = os.environ.get(SILENT)
    os.environ[SILENT] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SILENT]
        else:
            os.environ[SILENT] = before


@rank_zero_only
def log_data_warnings(data: "TaskDataModule", stage: str) -> None:
    """Logs the warnings about the splits of a stage, in one process of a run.

    Args:
        data: The data, after `setup(stage)`.
        stage: `fit` or `test`.
    """
    if SILENT in os.environ or stage not in ("fit", "test"):
        return
    unencoded = without_encoding(data)
    for index, task in enumerate(data.tasks):
        for warning in task_data_warnings(data, unencoded, index, stage, opened=True):
            _log.warning("Warning: task %r, %s", task.name, warning)


def without_encoding(data: "TaskDataModule", memory: Memory | None = None) -> "TaskDataModule":
    """A copy of the data that opens splits without encoding them.

    Args:
        data: The data.
        memory: Splits that were read already.
    """
    unencoded: Any = copy(data)
    unencoded.opener = UnencodedOpener(data.opener, memory)
    return cast("TaskDataModule", unencoded)


def task_data_warnings(
    data: "TaskDataModule",
    unencoded: "TaskDataModule",
    index: int,
    stage: str = "fit",
    *,
    opened: bool = False,
    few: int = FEW_EXAMPLES,
) -> Iterator[str]:
    """Warnings about the examples of a task that are trained on, selected with and tested.

    Args:
        data: The data.
        unencoded: The copy that `without_encoding` makes.
        index: The task's index.
        stage: `fit`, or `test`.
        opened: Whether `setup(stage)` has opened the stage's splits; otherwise they are read.
        few: Classes with fewer training examples are reported.
    """
    task = data.tasks[index]
    if stage == "fit" and data.holdout and not data.uses_holdout(task):
        yield (
            f"--data.holdout {data.holdout:g}: nothing is held out, because the task selects its "
            f"checkpoint on {' and '.join(task.splits.validation)}, which it does not test"
        )
    training = _training_split(data, unencoded, index, opened)
    evaluated = list(_evaluated_splits(data, unencoded, index, stage, opened))
    yield from split_warnings(task, training, evaluated, few)


def _training_split(
    data: "TaskDataModule", unencoded: "TaskDataModule", index: int, opened: bool
) -> NamedSplit | None:
    """The examples of a task that are trained on; None if there are none, or cannot be read."""
    task = data.tasks[index]
    if not data.trains_on(task):
        return None
    if opened and index in data.train_splits:
        return NamedSplit(task.splits.train, data.train_splits[index])
    try:
        return NamedSplit(task.splits.train, unencoded.train_split(task))
    except UserError:  # a test does not need the training examples
        return None


def _evaluated_splits(
    data: "TaskDataModule", unencoded: "TaskDataModule", index: int, stage: str, opened: bool
) -> Iterator[NamedSplit]:
    """The splits of a task that a stage evaluates; for training also those of a test."""
    seen = set()
    for other in ("fit", "test") if stage == "fit" else ("test",):
        for number, evaluation in enumerate(data.evaluations(other)):
            name = _split_name(data, evaluation, other)
            if evaluation.task != index or name in seen:
                continue
            seen.add(name)
            if opened and other == stage:
                yield NamedSplit(name, data.eval_splits[number])
                continue
            try:
                yield NamedSplit(name, unencoded.evaluation_split(evaluation, other))
            except UserError:  # training does not need the test examples
                continue


def _split_name(data: "TaskDataModule", evaluation: Evaluation, stage: str) -> str:
    held_out = stage in SELECTION_STAGES and data.uses_holdout(data.tasks[evaluation.task])
    return f"holdout of {evaluation.split}" if held_out else evaluation.split


def split_warnings(
    task: Task, training: NamedSplit | None, evaluated: Sequence[NamedSplit], few: int
) -> Iterator[str]:
    """Warnings about the splits of one task.

    Args:
        task: The task.
        training: The examples that are trained on.
        evaluated: The splits that are evaluated.
        few: Classes with fewer training examples are reported.
    """
    splits = {split.name: _Labelled.of(task, split) for split in evaluated}
    train = training and _Labelled.of(task, training)
    if train:
        yield from _class_warnings(task, train, splits, few)
        yield from _conflict_warnings(train)
    for split in splits.values():
        yield from _conflict_warnings(split)
        if train:
            yield from _overlap_warnings(train, split)
        yield from _metric_warnings(task, split)


class _Labelled(NamedTuple):
    """The labelled examples of a split that augmentation did not add.

    Attributes:
        name: The split's name.
        title: Its name and file.
        labels: Labels, shape (examples, ...).
        keys: One value per example; equal for equal labels.
        rows: Row of each example in the file, counted from 1.
        texts: Hash of each example's texts.
    """

    name: str
    title: str
    labels: npt.NDArray[Any]
    keys: npt.NDArray[Any]
    rows: npt.NDArray[np.int64]
    texts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, task: Task, split: NamedSplit) -> "_Labelled":
        examples = split.examples
        used = np.flatnonzero(task.kind.is_labelled(examples.labels) & (examples.numbers >= 0))
        rows = examples.numbers[used] + 1
        labels = examples.labels[used]
        return cls(split.name, split.title, labels, _label_keys(labels), rows, examples.texts[used])


def _label_keys(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One value per example: its label, or a hash of a list without its padding."""
    if labels.ndim == 1:
        return labels
    return np.array([hash(row[row >= 0].tobytes()) for row in labels], np.int64)


def _class_warnings(
    task: Task, train: _Labelled, evaluated: Mapping[str, _Labelled], few: int
) -> Iterator[str]:
    """Classes without training examples, and with few."""
    if (counts := task.kind.class_counts(train.labels)) is None:
        return
    others = {name: task.kind.class_counts(split.labels) for name, split in evaluated.items()}
    missing, rare = [], []
    for index, (name, count) in enumerate(zip(task.classes, counts, strict=True)):
        if 0 < count < few:
            rare.append(f"{name!r} ({count})")
        elif not count:
            found = [
                f"{other[index]:,} in {split}"
                for split, other in others.items()
                if other is not None and other[index]
            ]
            missing.append(f"{name!r} ({', '.join(found)})" if found else repr(name))
    if missing:
        yield f"{train.title}: no training examples of class {', '.join(missing)}"
    if rare:
        yield f"{train.title}: fewer than {few} training examples of class {', '.join(rare)}"


def _conflict_warnings(split: _Labelled) -> Iterator[str]:
    """Texts with several labels in one split."""
    order = np.argsort(split.texts, kind="stable")
    texts, keys, rows = split.texts[order], split.keys[order], split.rows[order]
    # Windows of one text have labels of their own.
    conflicts = np.flatnonzero(
        (texts[1:] == texts[:-1]) & (keys[1:] != keys[:-1]) & (rows[1:] != rows[:-1])
    )
    if count := len(np.unique(texts[conflicts])):
        first, second = split.rows[order[conflicts[0] : conflicts[0] + 2]]
        subject = "1 text occurs" if count == 1 else f"{count:,} texts occur"
        yield f"{split.title}: {subject} with different labels, such as rows {first} and {second}"


def _overlap_warnings(train: _Labelled, split: _Labelled) -> Iterator[str]:
    """Evaluated examples that are trained on."""
    shared = np.isin(split.texts, train.texts)
    if not (count := int(shared.sum())):
        return
    first = int(np.flatnonzero(shared)[0])
    source = train.rows[np.flatnonzero(train.texts == split.texts[first])[0]]
    values, codes = np.unique(np.concatenate([train.keys, split.keys]), return_inverse=True)
    keys = np.concatenate([train.texts, split.texts]) * len(values) + codes  # wraps, as hashes do
    same = np.isin(keys[len(train.texts) :], keys[: len(train.texts)])
    other = int((shared & ~same).sum())
    labels = f" ({other:,} with another label)" if other else ""
    are = "is also a training example" if count == 1 else "are also training examples"
    yield (
        f"{split.title}: {count:,} of {len(split.texts):,} examples {are}{labels}, such as row "
        f"{split.rows[first]} (row {source} of {train.name})"
    )


def _metric_warnings(task: Task, split: _Labelled) -> Iterator[str]:
    """Metrics that are undefined because all labels are equal."""
    undefined = [name for name in task.metrics if name in task.kind.metrics_of_varied_labels]
    if undefined and len(split.labels) and (split.labels == split.labels[0]).all():
        value = task.kind.label_value(split.labels[0])
        yield (
            f"{split.title}: all {len(split.labels):,} labels are {value!r}, so "
            f"{' and '.join(undefined)} {'are' if len(undefined) > 1 else 'is'} undefined"
        )
