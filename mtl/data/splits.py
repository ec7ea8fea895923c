"""Opens the encoded splits of tasks; takes subsets of them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from transformers import PreTrainedTokenizerFast

from mtl.data.augmentation import Augmentation
from mtl.data.encoded_files import encode
from mtl.data.encoded_split import EncodedSplit
from mtl.data.encoding import Encoding
from mtl.data.permutation import Permutation
from mtl.data.sources import Split, open_split
from mtl.data.split_examples import SplitExamples
from mtl.errors import UserError, reject_unknown
from mtl.tasks import Task

Examples = TypeVar("Examples", bound=SplitExamples)
# The counts of all classes are listed up to the first number, else those of the second number.
MAX_CLASSES, LISTED_CLASSES = 40, 20


class SplitOpener:
    """Opens splits of tasks as encoded files; encodes a split first if it is not in the cache.

    Args:
        tokenizer: The backbone's tokenizer.
        encoding: How an example becomes token ids.
        max_length: Maximum number of tokens of an example; longer ones are truncated.
        cache: Folder of the encoded files.
        seed: The run's seed, which decides what augmentation adds.
        positions: Number of positions of the backbone; None for no limit.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        encoding: Encoding,
        max_length: int,
        cache: Path,
        seed: int,
        positions: int | None = None,
    ) -> None:
        self.positions = positions
        self.encoding, self.max_length = encoding, max_length
        # Arguments of `encode` that are the same for all splits.
        self.settings: dict[str, Any] = {
            "tokenizer": tokenizer,
            "encoding": encoding,
            "max_length": max_length,
            "cache": cache,
            "seed": seed,
        }
        # The label group of each task that is in one, by name.
        self.groups: dict[str, list[Task]] = {}
        # Opens the source of each encoded file.
        self._sources: dict[Path, Callable[[], Split]] = {}

    def open(
        self,
        task: Task,
        split: str,
        root: Path | None,
        labelled: bool = True,
        augmentation: Augmentation | None = None,
    ) -> EncodedSplit:
        """An encoded split of a task.

        Args:
            task: The task.
            split: The split's name in the task's source.
            root: Folder with a sub-folder for each task, which replaces the task's source.
            labelled: Whether each example must have a label.
            augmentation: What is added to the examples.

        Raises:
            UserError: If an example is longer than the backbone's positions.
        """
        group = self.groups.get(task.name, [task])
        if task not in group:  # a task whose source was replaced
            group = [task]
        path = encode(
            group[0],
            split,
            root=root,
            labelled=labelled,
            augmentation=augmentation,
            others=group[1:],
            **self.settings,
        )
        self._sources[path] = partial(open_split, task, split, root)
        encoded = EncodedSplit(path, column=group.index(task))
        if labelled and len(group) > 1:
            encoded = _labelled(task, encoded)
        if self.positions is not None and encoded.lengths.max() > self.positions:
            longest = self.encoding.length_limit(task, self.max_length)
            option = self.encoding.length_option(task)
            raise UserError(
                f"{option} {longest}: the backbone has {self.positions} positions, but "
                f"{encoded.report.where} has examples of {encoded.lengths.max()} tokens; give "
                f"{option} {self.positions} to truncate them, or choose another backbone"
            )
        return encoded

    def source(self, encoded: EncodedSplit) -> Split:
        """The source of a split that was opened: its examples as they were before encoding."""
        return self._sources[encoded.path]()

    def summary(self, name: str, task: Task, encoded: EncodedSplit) -> str:
        """One line on a split: examples, tokens, and what was truncated, added or dropped."""
        report, count = encoded.report, len(encoded)
        examples = f"{name}: {count:,} examples"
        parts = [examples + (f" of {report.rows:,}" if count < report.rows else "")]
        parts.append(f"{encoded.lengths.mean():.1f} tokens per example")
        total = "of them" if count == report.rows else f"of the {report.rows:,}"
        longest = self.encoding.length_limit(task, self.max_length)
        parts.append(f"{report.truncated:,} {total} truncated to {longest} tokens")
        if report.cut_labels:
            parts.append(f"{report.cut_labels:,} labels of words beyond it are not used")
        if added := int((encoded.numbers < 0).sum()):
            parts.append(f"{added:,} of them added by augmentation")
        if counts := class_counts(task, encoded):
            parts.append(f"classes: {counts}")
        parts += [f"{number:,} {fault} dropped" for fault, number in report.dropped.items()]
        return ", ".join(parts)


def _labelled(task: Task, encoded: EncodedSplit) -> EncodedSplit:
    """The examples of a label group that have a label of one of its tasks."""
    known = np.flatnonzero(task.kind.is_labelled(encoded.labels))
    if not len(known):
        raise UserError(
            f"task {task.name!r}: {encoded.report.where}: no row has a label; remove the task, or "
            "label some rows"
        )
    return encoded.subset(known)


def class_counts(task: Task, examples: SplitExamples) -> str:
    """The number of examples of each class, in a phrase; empty for tasks without classes.

    Of many classes, the most frequent are listed, and the range of the others.
    """
    labelled = examples.labels[task.kind.is_labelled(examples.labels)]
    counts = task.kind.class_counts(labelled) if len(labelled) else None
    if counts is None:
        return ""
    named = [f"{name} {count:,}" for name, count in zip(task.classes, counts.tolist(), strict=True)]
    if len(named) > MAX_CLASSES:
        order = np.argsort(-counts, kind="stable")
        rest = counts[order[LISTED_CLASSES:]]
        named = [named[index] for index in order[:LISTED_CLASSES].tolist()]
        named.append(f"{len(rest)} other classes {rest.min():,} to {rest.max():,}")
    return " | ".join(named)


def original_count(examples: SplitExamples) -> int:
    """The number of examples that augmentation did not add; windows of a text are one example."""
    return len(np.unique(examples.numbers[examples.numbers >= 0]))


def random_subset(encoded: Examples, start: int, end: int, seed: int) -> Examples:
    """The examples from `start` to `end` of the random order that a seed stands for.

    The order is that of all rows of the file, so that the tasks of a label group hold out the same
    texts, as far as these have a label.

    Examples that augmentation added are not counted; each stays with the example that it was made
    from.
    """
    originals = np.unique(encoded.numbers[encoded.numbers >= 0])
    if start == 0 and end == len(originals):
        return encoded
    in_file = np.unique(encoded.file_numbers[encoded.file_numbers >= 0])
    order = in_file[Permutation(len(in_file), [seed])(np.arange(len(in_file)))]
    chosen = order[np.isin(order, originals)][start:end]
    sources = np.where(encoded.numbers < 0, -1 - encoded.numbers, encoded.numbers)
    return encoded.subset(np.flatnonzero(np.isin(sources, chosen)))


def example_limits(
    max_examples: int | Mapping[str, int] | None, tasks: Sequence[Task]
) -> dict[str, int]:
    """The maximum number of training examples of each task that has one.

    Raises:
        UserError: If a name is not a task.
    """
    names = [task.name for task in tasks]
    if isinstance(max_examples, int):
        limits = dict.fromkeys(names, max_examples)
    else:
        limits = dict(max_examples or {})
    reject_unknown("max_examples", "task", limits, names)
    return limits


def task_augmentations(
    augment: Mapping[str, Augmentation | dict[str, Any]], tasks: Sequence[Task]
) -> dict[str, Augmentation]:
    """The augmentation of each task that has one.

    Raises:
        UserError: If a name is not a task, or a task without pairs is to be swapped.
    """
    by_name = {task.name: task for task in tasks}
    reject_unknown("augment", "task", augment, by_name)
    augmentations = {}
    for name, value in augment.items():
        augmentations[name] = Augmentation(**value) if isinstance(value, dict) else value
        if augmentations[name].swap and not by_name[name].pair:
            raise UserError(
                f"augment: {name}: swap needs pairs of texts, and {name!r} has one text"
            )
    return augmentations
