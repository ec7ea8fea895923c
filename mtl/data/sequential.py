"""Each example once per epoch."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from mtl.data.base import MultiTaskDataModule
from mtl.data.order import Draw, Order, Stream, group_by_length, window_size
from mtl.data.permutation import Ints, Permutation


class ConcatOrder:
    """All tasks as one data set in random order: each example once per epoch, in mixed batches.

    Args:
        streams: The tasks, for their sizes and lengths.
        batch_size: Maximum number of examples in a batch, over all tasks.
        seed: The run's seed.
    """

    def __init__(self, streams: Sequence[Stream], batch_size: int, seed: int) -> None:
        self.streams, self.seed = streams, seed
        self._starts = np.cumsum([0, *(stream.size for stream in streams)])
        self.size = int(self._starts[-1])
        self.steps = -(-self.size // batch_size)
        self.windows = -(-self.steps // window_size(self.steps))
        # The last window computed.
        self._window: tuple[tuple[int, int], list[tuple[Ints, Ints]]] | None = None

    def __call__(self, epoch: int, step: int) -> list[Draw]:
        """The examples of a step, task by task."""
        window = ((step + 1) * self.windows - 1) // self.steps
        if self._window is None or self._window[0] != (epoch, window):
            self._window = (epoch, window), self._steps(epoch, window)
        tasks, examples = self._window[1][step - self.steps * window // self.windows]
        return [Draw(self.streams[task].task, examples[tasks == task]) for task in np.unique(tasks)]

    def _steps(self, epoch: int, window: int) -> list[tuple[Ints, Ints]]:
        """The tasks and examples of each step in a window, after the exchange of examples."""
        first, last = (self.steps * index // self.windows for index in (window, window + 1))
        ends = np.array([self.size * step // self.steps for step in range(first, last + 1)])
        drawn = Permutation(self.size, (self.seed, epoch))(np.arange(ends[0], ends[-1]))
        tasks = np.searchsorted(self._starts, drawn, side="right") - 1
        examples = drawn - self._starts[tasks]
        if self.streams[0].lengths is not None:
            lengths = self._lengths(tasks, examples)
            steps = np.repeat(np.arange(last - first), np.diff(ends))
            order = group_by_length(lengths, steps, (self.seed, epoch, window), tasks)
            examples = examples[order]
        cuts = (ends - ends[0])[1:-1]
        return list(zip(np.split(tasks, cuts), np.split(examples, cuts), strict=True))

    def _lengths(self, tasks: Ints, examples: Ints) -> Ints:
        lengths = np.empty(len(examples), np.int64)
        for index, stream in enumerate(self.streams):
            if stream.lengths is not None:
                lengths[tasks == index] = stream.lengths[examples[tasks == index]]
        return lengths


class TaskByTaskOrder:
    """All batches of one task, then all of the next; each example once per epoch."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self.streams = streams
        self._ends = np.cumsum([stream.batches for stream in streams])
        self.steps = int(self._ends[-1])

    def __call__(self, epoch: int, step: int) -> list[Draw]:
        """The next batch of the task that this step belongs to."""
        task = int(np.searchsorted(self._ends, step, side="right"))
        stream = self.streams[task]
        return [stream(epoch * stream.batches + step - int(self._ends[task]) + stream.batches)]


class SequentialDataModule(MultiTaskDataModule):
    """Each example once per epoch: all tasks shuffled together in mixed batches, or task by task.

    Source: the default of CA-MTL's release, which shuffles the concatenated data sets.

    Args:
        by_task: Whether all batches of a task come before those of the next, in the order of the
            list of tasks.
    """

    def __init__(self, by_task: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.by_task = by_task

    @property
    def tasks_per_batch(self) -> Literal["one", "some"]:
        """One task if `by_task`; else as many as the shuffle gives."""
        return "one" if self.by_task else "some"

    def order(self, streams: Sequence[Stream]) -> Order:
        """Batches of `batch_size` examples."""
        if self.by_task:
            return TaskByTaskOrder(streams)
        return ConcatOrder(streams, self.batch_size, self.seed)
