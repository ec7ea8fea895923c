"""Each row once an epoch."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from mtl.data.base import MultiTaskDataModule
from mtl.data.order import Draw, Ints, Order, Permutation, Stream, grouped, window


class ConcatOrder:
    """The tasks' rows as one data set in random order: each row once an epoch, batches that mix tasks.

    Args:
        streams: The tasks, for their sizes and lengths.
        batch_size: Rows in a batch at most, of all tasks together.
        seed: The run's seed.
    """

    def __init__(self, streams: Sequence[Stream], batch_size: int, seed: int) -> None:
        self.streams, self.seed = streams, seed
        self._starts = np.cumsum([0, *(stream.size for stream in streams)])
        self.size = int(self._starts[-1])
        self.steps = -(-self.size // batch_size)
        self.windows = -(-self.steps // window(self.steps))
        self._window: tuple[tuple[int, int], list[tuple[Ints, Ints]]] | None = (
            None  # the last one computed
        )

    def __call__(self, epoch: int, step: int) -> list[Draw]:
        """The rows of a step, task by task."""
        number = ((step + 1) * self.windows - 1) // self.steps
        if self._window is None or self._window[0] != (epoch, number):
            self._window = (epoch, number), self._steps(epoch, number)
        tasks, rows = self._window[1][step - self.steps * number // self.windows]
        return [Draw(self.streams[task].task, rows[tasks == task]) for task in np.unique(tasks)]

    def _steps(self, epoch: int, number: int) -> list[tuple[Ints, Ints]]:
        """The tasks and rows of each of the neighbouring steps that exchange rows of a task."""
        first, last = (self.steps * place // self.windows for place in (number, number + 1))
        ends = np.array([self.size * step // self.steps for step in range(first, last + 1)])
        drawn = Permutation(self.size, (self.seed, epoch))(np.arange(ends[0], ends[-1]))
        tasks = np.searchsorted(self._starts, drawn, side="right") - 1
        rows = drawn - self._starts[tasks]
        if self.streams[0].lengths is not None:
            lengths = np.empty(len(rows), np.int64)
            for task in np.unique(tasks):
                lengths[tasks == task] = self.streams[task].lengths[rows[tasks == task]]  # type: ignore[index]
            steps = np.repeat(np.arange(last - first), np.diff(ends))
            rows = rows[grouped(lengths, steps, (self.seed, epoch, number), tasks)]
        cuts = (ends - ends[0])[1:-1]
        return list(zip(np.split(tasks, cuts), np.split(rows, cuts), strict=True))


class TaskByTaskOrder:
    """All batches of one task, then all of the next; each row once an epoch."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self.streams = streams
        self._ends = np.cumsum([stream.batches for stream in streams])
        self.steps = int(self._ends[-1])

    def __call__(self, epoch: int, step: int) -> list[Draw]:
        """The next batch of the task whose batches this step falls among."""
        task = int(np.searchsorted(self._ends, step, side="right"))
        stream = self.streams[task]
        return [stream(epoch * stream.batches + step - int(self._ends[task]) + stream.batches)]


class SequentialDataModule(MultiTaskDataModule):
    """Each row once an epoch: all tasks shuffled together, in batches that mix tasks, or task after task.

    Source: the default of CA-MTL's release, which shuffles the concatenated data sets.

    Args:
        by_task: Whether all batches of a task come before the next task's, in the order of the list of tasks.
    """

    def __init__(self, by_task: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.by_task = by_task

    @property
    def tasks_per_batch(self) -> Literal["one", "some"]:
        """Whatever the shuffle brings, or one task."""
        return "one" if self.by_task else "some"

    def order(self, streams: Sequence[Stream]) -> Order:
        """Batches of `batch_size` rows."""
        return (
            TaskByTaskOrder(streams)
            if self.by_task
            else ConcatOrder(streams, self.batch_size, self.seed)
        )
