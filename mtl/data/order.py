"""Which examples meet in which step, computed from integers alone.

There is no state and no torch here, so that a run can resume anywhere.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from mtl.data.permutation import Ints, Permutation

# The most neighbouring batches that exchange examples, and the fewest windows of such batches in a
# pass. Larger windows pad less and mix less: in small tasks the same examples would meet in every
# pass (experiments/bench/padding.py).
MAX_WINDOW, MIN_WINDOWS = 64, 2
# Separates the random order of the steps in a window from that of the examples.
GROUPING_KEY = 1


class Draw(NamedTuple):
    """Examples of one task that meet in a step, over all processes.

    Attributes:
        task: The task's index in the list of tasks.
        examples: Indices into the task's split; without repetition, unless the scheme samples with
            replacement.
    """

    task: int
    examples: Ints


class Order(Protocol):
    """What each step of each epoch draws: a pure function of (epoch, step).

    Attributes:
        steps: Batches in an epoch.
    """

    steps: int

    def __call__(self, epoch: int, step: int) -> list[Draw]:
        """The draws of a step, at most one for each task, each with at least one example."""
        ...


class Stream:
    """The batches of one task, pass after pass; a pass gives each example once, reshuffled.

    A pass is cut into batches of nearly equal size, so that none is tiny and none holds an example
    twice.

    Args:
        task: The task's index in the list of tasks.
        size: The task's number of examples.
        batch_size: Maximum number of examples in a batch.
        seed: The run's seed.
        lengths: Tokens of each example, shape (size,). If given, neighbouring batches of a pass
            exchange examples, so that examples of similar length meet.

    Attributes:
        batches: Batches in a pass.
    """

    def __init__(
        self, task: int, size: int, batch_size: int, seed: int, lengths: Ints | None = None
    ) -> None:
        self.task, self.size, self.seed, self.lengths = task, size, seed, lengths
        self.batches = -(-size // batch_size)
        self.windows = -(-self.batches // window_size(self.batches))
        # The last window computed; no other is stored.
        self._window: tuple[tuple[int, int], list[Ints]] | None = None

    def __call__(self, number: int) -> Draw:
        """The batch with this number, counted from the task's first batch in the run."""
        epoch, batch = divmod(number, self.batches)
        if self.lengths is None:
            return Draw(self.task, self._examples(epoch, batch, batch + 1))
        window = ((batch + 1) * self.windows - 1) // self.batches
        if self._window is None or self._window[0] != (epoch, window):
            self._window = (epoch, window), self._exchanged(epoch, window)
        return Draw(self.task, self._window[1][batch - self.batches * window // self.windows])

    def _examples(self, epoch: int, first: int, last: int) -> Ints:
        """The examples of batches `first` to `last - 1`, before the exchange."""
        start, end = (self.size * batch // self.batches for batch in (first, last))
        return Permutation(self.size, (self.seed, self.task, epoch))(np.arange(start, end))

    def _exchanged(self, epoch: int, window: int) -> list[Ints]:
        """The batches of a window, a few neighbours in a pass, after the exchange."""
        assert self.lengths is not None
        first, last = (self.batches * index // self.windows for index in (window, window + 1))
        examples = self._examples(epoch, first, last)
        ends = np.array([self.size * batch // self.batches for batch in range(first, last + 1)])
        steps = np.repeat(np.arange(last - first), np.diff(ends))
        order = group_by_length(
            self.lengths[examples], steps, (self.seed, self.task, epoch, window)
        )
        return np.split(examples[order], (ends - ends[0])[1:-1])


def window_size(batches: int) -> int:
    """How many neighbouring batches exchange examples in a pass of so many batches."""
    return max(1, min(MAX_WINDOW, batches // MIN_WINDOWS))


def group_by_length(
    lengths: Ints, steps: Ints, key: Sequence[int], kinds: Ints | None = None
) -> Ints:
    """Rearranges items so that similar lengths meet in a step; each position keeps its kind.

    The items of a kind are sorted by length and distributed over the steps, which are taken in
    random order, so that lengths neither rise nor fall from step to step. If steps hold several
    kinds, the step that gets the longest items of one kind gets the longest items of every kind.

    Args:
        lengths: Tokens of each item, shape (n,).
        steps: The step of each position, counted from 0 without gaps, shape (n,).
        key: Identifies the random order of the steps.
        kinds: The kind of each item and of its position, shape (n,). Default: all of one kind.

    Returns:
        For each position the index of the item that goes there, shape (n,).
    """
    kinds = np.zeros_like(steps) if kinds is None else kinds
    count = int(steps.max()) + 1
    ranks = Permutation(count, (*key, GROUPING_KEY))(np.arange(count))
    order = np.empty(len(steps), np.int64)
    # The order within a step is random: nothing else may depend on the length, such as which score
    # an example borrows.
    chance = Permutation(len(steps), (*key, GROUPING_KEY, GROUPING_KEY))(np.arange(len(steps)))
    order[np.lexsort((chance, ranks[steps], kinds))] = np.lexsort((lengths, kinds))
    return order
