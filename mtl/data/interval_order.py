"""An order that is known for one interval of steps at a time. No torch here."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mtl.data.mixture import Floats, systematic_counts
from mtl.data.order import Draw, Stream
from mtl.data.permutation import Ints


class Interval(NamedTuple):
    """Everything that the draws of an interval depend on, apart from the seed.

    Attributes:
        epoch: The epoch.
        number: The interval's index in the epoch.
        probabilities: Probability of each task, shape (tasks,); their sum is 1.
        batches: Batches that each task gave before the interval, shape (tasks,).
    """

    epoch: int
    number: int
    probabilities: Floats
    batches: Ints


class IntervalOrder:
    """One task's batch per step, in random order, for the steps of one interval.

    In an interval of S steps a task with probability p is drawn floor(pS) or ceil(pS) times, pS in
    the mean. Each task gives its own batches, pass after pass.

    Args:
        streams: The tasks' batches.
        interval: The interval.
        length: Steps of an interval; the last interval of an epoch may be shorter.
        steps: Steps in an epoch.
        seed: The run's seed.

    Attributes:
        counts: Batches that each task gives in the interval, shape (tasks,).
    """

    def __init__(
        self, streams: Sequence[Stream], interval: Interval, length: int, steps: int, seed: int
    ) -> None:
        self.streams, self.interval, self.steps = streams, interval, steps
        self.first = interval.number * length
        chance = np.random.default_rng([seed, interval.epoch, interval.number])
        size = min(length, steps - self.first)
        self.counts = systematic_counts(interval.probabilities, size, chance.random())
        self._tasks = chance.permutation(np.repeat(np.arange(len(streams)), self.counts))

    def __call__(self, epoch: int, step: int) -> list[Draw]:
        """The next batch of the task drawn.

        Raises:
            ValueError: If the step is not in the interval: its tasks are not known yet.
        """
        index = step - self.first
        if epoch != self.interval.epoch or not 0 <= index < len(self._tasks):
            raise ValueError(f"epoch {epoch}, step {step} is not in interval {self.interval}")
        task = self._tasks[index]
        earlier = int((self._tasks[:index] == task).sum())
        return [self.streams[task](int(self.interval.batches[task]) + earlier)]


def proportional(needs: Sequence[float | None]) -> Floats:
    """Probabilities in proportion to the tasks' needs.

    With K of T tasks known and needs n_t >= 0, a known task gets (K / T) n_t / sum(n), so that a
    task whose need is not known yet keeps the probability 1 / T. If all needs are 0, all tasks are
    equally likely.

    Args:
        needs: The need of each task; None if it is not known yet.
    """
    known = [need for need in needs if need is not None]
    mean = sum(known) / len(known) if known else 1.0
    weights = np.array([mean if need is None else need for need in needs])
    weights = weights if mean > 0 else np.ones(len(needs))
    return weights / weights.sum()
