"""A few examples of each class."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mtl.bounds import Count, NonNegativeInt
from mtl.data.base import MultiTaskDataModule
from mtl.data.encoded_split import EncodedSplit
from mtl.data.evaluations import SELECTION_STAGES, Evaluation
from mtl.data.order import Order, Stream
from mtl.data.permutation import Ints
from mtl.data.sequential import ConcatOrder
from mtl.data.sources import task_folder
from mtl.errors import UserError
from mtl.tasks import Source, Task, TokenLabels


def k_shot(
    labels: Ints, k: int, seed: int, numbers: Ints | None = None, source_rows: int | None = None
) -> tuple[Ints, Ints]:
    """Samples k training examples and k selection examples of each class, without overlap.

    The examples are shuffled; the first k of each class are for training, the next k for selection.
    If the task's examples are in their published order, these are the examples of the published
    draw with this seed.

    Source: the generator of k-shot data of LM-BFF (Gao et al. 2021), which uses numpy's legacy
        random
    generator.

    Args:
        labels: Class index of each example, shape (examples,).
        k: Examples of each class.
        seed: Seed of the draw; 13, 21, 42, 87 and 100 in publications.
        numbers: Each example's row in the source, shape (examples,). Default: no row was dropped.
        source_rows: Number of rows in the source, including those that were dropped.

    Returns:
        Indices of the training examples and of the selection examples, both sorted.

    Raises:
        ValueError: If a class has fewer than 2 k examples.
    """
    numbers = np.arange(len(labels)) if numbers is None else numbers
    index_of_row = np.full(source_rows or len(labels), -1)
    index_of_row[numbers] = np.arange(len(labels))
    shuffled = index_of_row[np.random.RandomState(seed).permutation(len(index_of_row))]
    shuffled = shuffled[shuffled >= 0]
    train, selection = [], []
    for label in range(int(labels.max()) + 1):
        examples = shuffled[labels[shuffled] == label]
        if len(examples) < 2 * k:
            raise ValueError(
                f"class {label} has {len(examples)} examples, but {k} for training and {k} for "
                "selection are needed"
            )
        train.append(examples[:k])
        selection.append(examples[k : 2 * k])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(selection))


def k_shot_entities(counts: Ints, classes: Sequence[str], k: int, seed: int) -> tuple[Ints, Ints]:
    """Examples with k entities of each class or few more, for training and for selection.

    Examples are taken in random order for one class after the other, from the rarest to the most
    frequent, until k entities of the class are among them.

    Source: the greedy sampling of Yang and Katiyar 2020, "Simple and effective few-shot named
    entity recognition with structured nearest neighbor learning", algorithm 1.

    Args:
        counts: Number of entities of each class in each example, shape (examples, classes).
        classes: Names of the classes.
        k: Entities of each class in each of the two sets.
        seed: Seed of the draw.

    Returns:
        Indices of the training examples and of the selection examples, both sorted.

    Raises:
        ValueError: If a class has too few entities.
    """
    order = np.random.RandomState(seed).permutation(len(counts))
    free, sets = np.ones(len(counts), bool), []
    for _ in range(2):
        chosen: list[int] = []
        for class_ in np.argsort(counts.sum(0), kind="stable"):
            for index in order[free[order] & (counts[order, class_] > 0)]:
                if counts[chosen, class_].sum() >= k:
                    break
                chosen.append(int(index))
                free[index] = False
            if (found := int(counts[chosen, class_].sum())) < k:
                raise ValueError(
                    f"class {classes[class_]!r} has {int(counts[:, class_].sum())} entities, but "
                    f"{k} for training and {k} for selection are needed (found {found})"
                )
        sets.append(np.sort(np.asarray(chosen)))
    return sets[0], sets[1]


class KShotDataModule(MultiTaskDataModule):
    """Trains on k examples of each class of each task, and selects the checkpoint on k others.

    All test examples are tested. All tasks are shuffled together, each example once per epoch: with
    one task the usual few-shot training, with several domains the N-way K-shot mix of meta
    fine-tuning. A regression task has two classes here, below the middle of its range and above;
    of token labels, k entities of each class are drawn (`k_shot_entities`).

    Source: Gao et al. 2021 (LM-BFF), section 3.

    Args:
        k: Examples of each class.
        draw: Seed of the draw of the examples, separate from the run's seed; 13, 21, 42, 87 and 100
            in publications.
        draws: Folder of stored draws in LM-BFF's layout, `TASK/K-SEED/train.*` and
            `TASK/K-SEED/dev.*`, whose examples are all used. Default: the examples are drawn from
            the tasks' training splits.

    Raises:
        UserError: If a class has too few examples, a stored draw is missing, or `k` is below 1.
    """

    def __init__(
        self, k: Count = 16, draw: NonNegativeInt = 42, draws: Path | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if self.max_examples is not None or self.holdout:
            raise UserError(
                "k-shot sampling chooses its training and selection examples itself: omit "
                "max_examples and holdout"
            )
        self.k, self.draw, self.draws = k, draw, draws and Path(draws)

    @property
    def tasks_per_batch(self) -> Literal["some"]:
        """As many as the shuffle gives."""
        return "some"

    def order(self, streams: Sequence[Stream]) -> Order:
        """Batches of `batch_size` examples of all tasks."""
        return ConcatOrder(streams, self.batch_size, self.seed)

    def uses_holdout(self, task: Task) -> bool:
        """Always: the checkpoint is selected on training examples that are not trained on."""
        return True

    def train_split(self, task: Task) -> EncodedSplit:
        """The k training examples of each class."""
        if task.name in self.augment:
            raise UserError(
                f"augment: {task.name}: k-shot sets have k examples of each class, so nothing can "
                "be added to them; omit it"
            )
        return self._draw(task)[0]

    def evaluation_split(self, evaluation: Evaluation, stage: str) -> EncodedSplit:
        """The k selection examples of each class; for the other stages the complete split."""
        if stage in SELECTION_STAGES:
            return self._draw(self.tasks[evaluation.task])[1]
        return super().evaluation_split(evaluation, stage)

    def _draw(self, task: Task) -> tuple[EncodedSplit, EncodedSplit]:
        """The examples to train on, and those to select the checkpoint on."""
        if self.draws:
            stored = replace(task, source=self._stored(task, self.draws))
            train, selection = (
                self.opener.open(stored, split, None) for split in ("train", "validation")
            )
            return train, selection
        encoded = self.opener.open(task, task.splits.train, self.root)
        report = encoded.report
        rows = max(report.rows + sum(report.dropped.values()), int(encoded.numbers.max()) + 1)
        try:
            if isinstance(task.kind, TokenLabels):
                drawn = self._draw_texts(encoded, task.kind)
            else:
                classes = task.kind.k_shot_classes(encoded.labels)
                drawn = k_shot(classes, self.k, self.draw, encoded.numbers, rows)
            train, selection = (encoded.subset(chosen) for chosen in drawn)
        except ValueError as error:
            raise UserError(
                f"task {task.name!r}: {report.where}: {error}; choose a smaller --data.k"
            ) from error
        return train, selection

    def _draw_texts(self, encoded: EncodedSplit, kind: TokenLabels) -> tuple[Ints, Ints]:
        """Rows of the drawn texts; the windows of a text stay together."""
        texts, index = np.unique(encoded.numbers, return_inverse=True)
        counts = np.zeros((len(texts), len(kind.classes)), np.int64)
        np.add.at(counts, index, kind.example_class_counts(encoded.labels))
        train, selection = (
            np.flatnonzero(np.isin(index, chosen))
            for chosen in k_shot_entities(counts, kind.classes, self.k, self.draw)
        )
        return train, selection

    def _stored(self, task: Task, draws: Path) -> Source:
        folder = task_folder(task, draws) / f"{self.k}-{self.draw}"
        if not folder.is_dir():
            present = sorted(path.name for path in folder.parent.iterdir() if path.is_dir())
            raise UserError(
                f"task {task.name!r}: {folder.parent} has no draw {folder.name}; it has "
                f"{', '.join(present)}"
            )
        # The hub's column names are not those of the files.
        columns = {} if task.source.hub else task.source.columns
        return replace(
            task.source,
            hub=None,
            config=None,
            revision=None,
            path=str(folder),
            format="lmbff",
            files={},
            columns=columns,
        )
