"""A few examples of each class."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mtl.data.base import Evaluation, MultiTaskDataModule
from mtl.data.encoding import EncodedSplit
from mtl.data.order import Draw, Ints, Order, Stream
from mtl.data.sequential import ConcatOrder
from mtl.data.sources import task_folder
from mtl.errors import UserError, did_you_mean
from mtl.tasks import Source, Task


def k_shot(
    labels: Ints, k: int, seed: int, numbers: Ints | None = None, source_rows: int | None = None
) -> tuple[Ints, Ints]:
    """Rows to train on and rows to select with, k of each class each, none in both.

    The rows are shuffled; the first k of each class are for training, the next k for selection. With the task's rows in
    their published order, these are the rows of the published draw with this seed.

    Source: the generator of k-shot data of LM-BFF (Gao et al. 2021), whose numbers come from numpy's legacy generator.

    Args:
        labels: Class of each row, shape (rows,).
        k: Rows of each class.
        seed: The draw; 13, 21, 42, 87 and 100 in publications.
        numbers: Each row's number in the source, shape (rows,), where some of the source's rows are left out.
        source_rows: Rows of the source, those left out included.

    Raises:
        ValueError: If a class has fewer than 2 k rows.
    """
    numbers = np.arange(len(labels)) if numbers is None else numbers
    places = np.full(source_rows or len(labels), -1)
    places[numbers] = np.arange(len(labels))
    shuffled = places[np.random.RandomState(seed).permutation(len(places))]
    shuffled = shuffled[shuffled >= 0]
    train, selecting = [], []
    for label in range(int(labels.max()) + 1):
        rows = shuffled[labels[shuffled] == label]
        if len(rows) < 2 * k:
            raise ValueError(
                f"class {label} has {len(rows)} rows, where {k} to train on and {k} to select with are wanted"
            )
        train.append(rows[:k])
        selecting.append(rows[k : 2 * k])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(selecting))


class KShotDataModule(MultiTaskDataModule):
    """Training on k examples of each class of each task, selection on k others of each; testing on all test rows.

    Each row once an epoch, all tasks shuffled together: with one task the usual few-shot training, with several domains
    the N-way K-shot mix of meta fine-tuning. A regression task has two classes here, below the middle of its range and
    from there on.

    Source: Gao et al. 2021 (LM-BFF), section 3.

    Args:
        k: Examples of each class.
        draw: Seed of the draw of the examples, apart from the run's own; 13, 21, 42, 87 and 100 in publications.
        draws: Folder of stored draws in LM-BFF's layout, whose rows are read as they are: `TASK/K-SEED/train.*` and
            `TASK/K-SEED/dev.*`. Where absent, the examples are drawn from the tasks' training rows.

    Raises:
        UserError: If a class has too few rows, a stored draw is missing, or `k` is below 1.
    """

    def __init__(
        self, k: int = 16, draw: int = 42, draws: Path | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if k < 1:
            raise UserError(f"k {k}: give 1 or more examples of each class")
        if self.max_examples is not None or self.holdout:
            raise UserError(
                "k-shot sampling chooses its training and selection rows itself: leave out max_examples and holdout"
            )
        self.k, self.draw, self.draws = k, draw, draws and Path(draws)

    @property
    def tasks_per_batch(self) -> Literal["some"]:
        """Whatever the shuffle brings."""
        return "some"

    def order(self, streams: Sequence[Stream]) -> Order:
        """Batches of `batch_size` rows of all tasks."""
        return ConcatOrder(streams, self.batch_size, self.seed)

    def sets_aside(self, task: Task) -> bool:
        """Always: the checkpoint is selected on training rows that are not trained on."""
        return True

    def _train_table(self, task: Task) -> EncodedSplit:
        if task.name in self.augment:
            raise UserError(
                f"augment: {task.name}: k-shot sets are of k rows of each class, and nothing is added to them"
            )
        return self._shot(task)[0]

    def _eval_table(self, evaluation: Evaluation, stage: str) -> EncodedSplit:
        if stage in ("fit", "validate"):
            return self._shot(self.tasks[evaluation.task])[1]
        return super()._eval_table(evaluation, stage)

    def _shot(self, task: Task) -> tuple[EncodedSplit, EncodedSplit]:
        """The rows to train on, and those to select with."""
        if self.draws:
            stored = replace(task, source=self._stored(task))
            return self._table(stored, "train", None), self._table(stored, "validation", None)
        table = self._table(task, task.splits.train, self.root)
        try:
            rows = max(
                table.report.rows + sum(table.report.dropped.values()), int(table.numbers.max()) + 1
            )
            chosen = k_shot(_classes(task, table.labels), self.k, self.draw, table.numbers, rows)
        except ValueError as error:
            raise UserError(
                f"task {task.name!r}: {table.report.where}: {error}; choose a smaller --data.k"
            ) from error
        train, selecting = (EncodedSplit(table.path, rows) for rows in chosen)
        return train, selecting

    def _stored(self, task: Task) -> Source:
        assert self.draws is not None
        folder = task_folder(task, self.draws) / f"{self.k}-{self.draw}"
        if not folder.is_dir():
            present = sorted(found.name for found in folder.parent.iterdir() if found.is_dir())
            raise UserError(
                f"task {task.name!r}: {folder.parent} has no draw {folder.name}; it has {', '.join(present)}"
            )
        columns = (
            {} if task.source.hub else task.source.columns
        )  # the hub's names are not those of the files
        return replace(
            task.source, hub=None, path=str(folder), format="lmbff", files={}, columns=columns
        )


def _classes(task: Task, labels: Any) -> Ints:
    if task.range is None:
        return labels.astype(np.int64)
    return (labels >= sum(task.range) / 2).astype(np.int64)


class RandomTasksOrder:
    """In each step some tasks drawn, and one row of each, whatever was drawn before.

    Args:
        streams: The tasks, for their sizes.
        picks: Tasks drawn in a step.
        steps: Steps in an epoch.
        seed: The run's seed.
        distinct: Whether tasks are drawn without replacement, rather than with.
    """

    def __init__(
        self, streams: Sequence[Stream], picks: int, steps: int, seed: int, distinct: bool = False
    ) -> None:
        self.streams, self.picks, self.steps, self.seed, self.distinct = (
            streams,
            picks,
            steps,
            seed,
            distinct,
        )

    def __call__(self, epoch: int, step: int) -> list[Draw]:
        """The rows of a step, task by task."""
        chance = np.random.default_rng([self.seed, epoch, step])
        places = chance.choice(len(self.streams), self.picks, replace=not self.distinct)
        rows = chance.integers([self.streams[place].size for place in places])
        return [
            Draw(self.streams[place].task, rows[places == place]) for place in np.unique(places)
        ]


class LeaveOneOutKShotDataModule(KShotDataModule):
    """Training on k examples of each class of every task but one, which is only tested, on all of its test rows.

    Each step draws `batch_size` of the k-shot sets, all tasks alike whatever their number of classes, and one example from
    each. The checkpoint is selected on the k-shot selection rows of the tasks trained on: the held
    out task's rows take no part in training or selection.

    Source: the leave-one-out multi-task stage in front of LM-BFF: 10 of the sets in a step, 100 steps an epoch, 10 epochs.

    Args:
        held_out: Name of the task to leave out.
        batch_size: Examples in a step, of all processes together.
        steps: Steps in an epoch.
        regression: Whether regression tasks (STS-B) are trained on too; as published they are only predictions.
        distinct_tasks: Whether a step's examples are of different tasks, as the published text suggests; its code draws
            tasks with replacement.

    Raises:
        UserError: If there is no such task, or no other to train on, or no step; or fewer tasks than a step wants different ones.
    """

    def __init__(
        self,
        held_out: str,
        batch_size: int = 10,
        steps: int = 100,
        distinct_tasks: bool = False,
        regression: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        if steps < 1:
            raise UserError(f"steps {steps}: give 1 or more")
        names = [task.name for task in self.tasks]
        if held_out not in names:
            raise UserError(
                f"held_out: {held_out!r} is none of the tasks {names}.{did_you_mean(held_out, names)}"
            )
        self.held_out, self.steps, self.distinct_tasks, self.regression = (
            held_out,
            steps,
            distinct_tasks,
            regression,
        )
        few = sum(map(self.trains_on, self.tasks))
        if not few:
            raise UserError(
                f"held_out: beside {held_out!r} there is no task to train on (regressions: --data.regression true)"
            )
        if distinct_tasks and batch_size > few:
            raise UserError(
                f"distinct_tasks: there are {few} tasks to train on, so give --data.batch_size {few} or less"
            )

    def trains_on(self, task: Task) -> bool:
        """All tasks but the one held out, and regressions."""
        return task.name != self.held_out and (self.regression or not task.regression)

    def order(self, streams: Sequence[Stream]) -> RandomTasksOrder:
        """`batch_size` examples a step."""
        return RandomTasksOrder(
            streams, self.batch_size, self.steps, self.seed, self.distinct_tasks
        )

    def evaluations(self, stage: str) -> list[Evaluation]:
        """The held out task to test and to predict; the others to select with."""
        every = super().evaluations(stage)
        if stage in ("test", "predict"):
            return [found for found in every if self.tasks[found.task].name == self.held_out]
        return [found for found in every if self.trains_on(self.tasks[found.task])]
