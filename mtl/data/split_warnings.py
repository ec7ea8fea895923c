"""Warnings about the examples of a task: classes, contradicting labels, overlaps, metrics."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mtl.data.split_examples import SplitExamples
from mtl.tasks import Task

# A class with fewer training examples is reported.
FEW_EXAMPLES = 5
# The difference of a class's share of the labels between two splits from which it is reported, and
# the number of labels from which shares are compared.
SHIFT, MIN_SHARES = 0.2, 50


class NamedSplit(NamedTuple):
    """Examples, and what their split is called in a warning."""

    name: str
    examples: SplitExamples

    @property
    def title(self) -> str:
        """The name and the file."""
        return f"{self.name} ({self.examples.report.where})"


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
        if train:
            yield from _shift_warnings(task, train, split)
        undefined = list(_metric_warnings(task, split))
        yield from undefined or _absent_class_warnings(task, train, split)


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
        yield (
            f"{train.title}: fewer than {few} training examples of class {', '.join(rare)}; "
            "expect scores that change with the seed"
        )


def _absent_class_warnings(task: Task, train: _Labelled | None, split: _Labelled) -> Iterator[str]:
    """Classes that are trained on, but not evaluated."""
    counts = task.kind.class_counts(split.labels)
    if counts is None or not len(split.labels):
        return
    trained = None if train is None else task.kind.class_counts(train.labels)
    absent = [
        repr(name)
        for index, name in enumerate(task.classes)
        if not counts[index] and (trained is None or trained[index])
    ]
    if absent:
        it = "it" if len(absent) == 1 else "them"
        yield f"{split.title}: no examples of class {', '.join(absent)}; scores do not cover {it}"


def _shift_warnings(task: Task, train: _Labelled, split: _Labelled) -> Iterator[str]:
    """The class whose share differs most between training and evaluation, if it differs much."""
    trained, tested = (task.kind.class_counts(each.labels) for each in (train, split))
    if trained is None or tested is None or min(trained.sum(), tested.sum()) < MIN_SHARES:
        return
    before, after = trained / trained.sum(), tested / tested.sum()
    most = int(np.argmax(np.abs(after - before)))
    if abs(after[most] - before[most]) >= SHIFT:
        yield (
            f"{split.title}: class {task.classes[most]!r} is {after[most]:.0%} of the labels, but "
            f"{before[most]:.0%} of {train.name}: a model that prefers the classes frequent in "
            "training scores badly; consider class_weights, and the metric f1_macro"
        )


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
