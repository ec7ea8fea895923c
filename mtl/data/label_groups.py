"""Label groups: tasks that label the same texts, which are encoded once and drawn together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl.batch import EncodedExamples, TaskLabels, loss_terms
from mtl.data.augmentation import Augmentation
from mtl.data.encoded_split import EncodedSplit
from mtl.data.encoding import Encoding
from mtl.data.order import Draw
from mtl.data.permutation import Ints
from mtl.tasks import Task, TokenLabels


def label_groups(
    tasks: Sequence[Task],
    encoding: Encoding,
    augment: Mapping[str, Augmentation],
    by_folder: bool = False,
) -> list[list[int]]:
    """The indices of the tasks of each label group; a task of its own is a group of one.

    Tasks belong together if they read the same examples of the same source (`source.labels` may
    differ) and encode them in the same way.

    Args:
        tasks: The tasks.
        encoding: How examples become token ids.
        augment: Augmentation by task.
        by_folder: Whether each task reads its own folder under `--data.root`.
    """
    groups: dict[str, list[int]] = {}
    for index, task in enumerate(tasks):
        source = replace(task.source, labels={})
        folder = source.folder or task.name if by_folder or not (source.path or source.hub) else ""
        drop = sorted(set(task.drop) - {"unlabelled"})
        key = [source, folder, task.text_columns, task.splits, drop, encoding.shared_key(task)]
        key += [task.max_length, task.truncation, augment.get(task.name)]
        groups.setdefault(repr(key), []).append(index)
    return [part for group in groups.values() for part in same_words(tasks, group)]


def same_words(tasks: Sequence[Task], group: Sequence[int]) -> list[list[int]]:
    """Divides tasks with the same texts by what a word is; the first part has the sentence tasks.

    Tasks that label words come first in their part, because an encoding that numbers the words
    serves sentence tasks too.

    Args:
        tasks: All tasks.
        group: Indices of the tasks.
    """
    parts: dict[bool, list[int]] = {}
    sentences = []
    for index in group:
        kind = tasks[index].kind
        if isinstance(kind, TokenLabels):
            parts.setdefault(kind.splits_punctuation, []).append(index)
        else:
            sentences.append(index)
    first, *others = list(parts.values()) or [[]]
    return [first + sentences, *others]


class LabelGroup:
    """The training examples of a label group: the union of its tasks' examples.

    Args:
        splits: The examples of each task, by its index; all are subsets of the same file.

    Attributes:
        lengths: Number of tokens of each example, shape (examples,).
        labels: Label array of each task, by its index; the labels of examples that the task does
            not train on are missing.
    """

    def __init__(self, splits: Mapping[int, EncodedSplit]) -> None:
        first = next(iter(splits.values()))
        rows = np.unique(np.concatenate([split.rows for split in splits.values()]))
        self.examples = EncodedSplit(first.path, rows)
        self.lengths = self.examples.lengths
        self.labels: dict[int, npt.NDArray[Any]] = {}
        for index, split in splits.items():
            labels = split.labels
            missing = -1 if labels.dtype.kind == "i" else np.nan
            column = np.full((len(rows), *labels.shape[1:]), missing, labels.dtype)
            column[np.searchsorted(rows, split.rows)] = labels
            self.labels[index] = column

    def __len__(self) -> int:
        return len(self.lengths)

    def take(
        self, draw: Draw, share: Ints, world: int, fillers: int, once: bool
    ) -> list[EncodedExamples]:
        """This process's share of a draw, with the labels of all tasks of the group.

        Tasks without a label in the complete draw are not part of the batch.

        Args:
            draw: The complete draw.
            share: The examples of this process.
            world: Number of processes.
            fillers: How many of the last examples are fillers, which have no label.
            once: Whether the examples are in the batch once, for all tasks. If not, they are in it
                once for each task, without those that have no label for it.
        """
        terms = {
            index: int(loss_terms(labels[draw.examples]).sum())
            for index, labels in self.labels.items()
        }
        tasks = [index for index, count in terms.items() if count]
        if once:
            real = share[: len(share) - fillers]
            labelled = [
                TaskLabels(index, self.labels[index][real], terms[index] / world) for index in tasks
            ]
            encoded = self.examples.take(Draw(tasks[0], share), labelled[0].denominator, fillers)
            return [encoded._replace(labels=labelled[0].labels, others=tuple(labelled[1:]))]
        copies = []
        for number, index in enumerate(tasks):
            chosen = share[loss_terms(self.labels[index][share]) > 0]
            filler = fillers if number == 0 else 0
            chosen = share if filler else chosen
            encoded = self.examples.take(Draw(index, chosen), terms[index] / world, filler)
            labels = self.labels[index][chosen[: len(chosen) - filler]]
            copies.append(encoded._replace(labels=labels))
        return copies
