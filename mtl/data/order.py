"""Which examples meet in which step, computed from integers alone.

There is no state and no torch here, so that a run can resume anywhere.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FEISTEL_ROUNDS = 6
# Up to this size a permutation is shuffled in memory.
MAX_SHUFFLED = 1024
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


class Permutation:
    """A random order of `range(size)` in memory that does not grow with the size.

    Positions are scrambled within the next power of two by Feistel rounds, which are one-to-one for
    any round function. They are scrambled again until they fall below the size ("cycle walking"),
    which keeps the permutation one-to-one. Small sizes are shuffled in memory: on so few bits the
    rounds would favour some orders.

    Args:
        size: Number of items to permute.
        key: Integers that identify the permutation; another key gives another order.
    """

    def __init__(self, size: int, key: Sequence[int]) -> None:
        self.size = size
        self._shuffled = (
            np.random.default_rng(list(key)).permutation(size) if size <= MAX_SHUFFLED else None
        )
        bits = max(2, (size - 1).bit_length())
        # Bits of the lower half; the upper half has the same number of bits or one more.
        self._low = np.uint64(bits // 2)
        self._masks = np.uint64((1 << (bits - bits // 2)) - 1), np.uint64((1 << (bits // 2)) - 1)
        self._keys = np.random.SeedSequence(list(key)).generate_state(FEISTEL_ROUNDS, np.uint64)

    def __call__(self, positions: npt.ArrayLike) -> Ints:
        """The items at the given positions, each in `range(size)`."""
        if self._shuffled is not None:
            return self._shuffled[np.asarray(positions)]
        values = self._scrambled(np.asarray(positions, dtype=np.uint64))
        outside = np.flatnonzero(values >= self.size)
        while len(outside):
            values[outside] = again = self._scrambled(values[outside])
            outside = outside[again >= self.size]
        return values.astype(np.int64)

    def _scrambled(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        upper, lower = self._masks
        left, right = values >> self._low, values & lower
        # The halves change sides in each round, and with them their sizes; after an even number of
        # rounds they are back.
        for key in self._keys:
            left, right = right, left ^ (_hashed(right + key) & upper)
            upper, lower = lower, upper
        return (left << self._low) | right


def _hashed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of splitmix64: each bit depends on all bits. Overflow is intended."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


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


def systematic_counts(weights: Floats, steps: int, offset: float) -> Ints:
    """Steps of each task in proportion to its weight: systematic sampling.

    A task with probability p gets floor(p * steps) or ceil(p * steps) of them, p * steps in the
    mean over the offset.

    Args:
        weights: Non-negative weight of each task, shape (tasks,), not all 0.
        steps: Number of steps.
        offset: A random number in [0, 1), one for all tasks.

    Returns:
        Steps of each task, shape (tasks,); their sum is `steps`.
    """
    expected = np.cumsum(weights / weights.sum()) * steps
    # Rounded first: a sum that should be an integer must not fall short of it by an error in the
    # last digit.
    ends = np.floor(np.round(expected, 6) + offset).astype(np.int64)
    return ends - np.concatenate([[0], ends[:-1]])


class Mixture:
    """Items of several kinds in uniformly random order, computed block by block.

    The number of items of each kind before a block is computed without counting from the start: the
    sequence is halved repeatedly down to the block, and each halving draws from the multivariate
    hypergeometric distribution how many items of each kind fall into its left half. Memory grows
    with the number of kinds, not of items (fewer than 1e9).

    Args:
        counts: Number of items of each kind, shape (kinds,).
        block: Items in a block; the last block may hold fewer.
        key: Integers that identify the order; another key gives another order.
    """

    def __init__(self, counts: Ints, block: int, key: Sequence[int]) -> None:
        self.counts, self.size, self.key = counts, block, list(key)
        self.total = int(counts.sum())
        self._last: tuple[int, Ints, Ints] | None = None

    def block(self, number: int) -> tuple[Ints, Ints]:
        """Items of each kind before a block, shape (kinds,); the kinds in it, shape (items,)."""
        if self._last is None or self._last[0] != number:
            self._last = (number, *self._drawn(number))
        return self._last[1:]

    def _drawn(self, number: int) -> tuple[Ints, Ints]:
        before, inside = np.zeros_like(self.counts), self.counts
        low, high = 0, -(-self.total // self.size)
        while high - low > 1:
            middle = (low + high) // 2
            chance = np.random.default_rng([*self.key, low, high])
            left = chance.multivariate_hypergeometric(
                inside, (middle - low) * self.size, method="marginals"
            )
            if number < middle:
                inside, high = left, middle
            else:
                before, inside, low = before + left, inside - left, middle
        kinds = np.repeat(np.arange(len(inside)), inside)
        return before, np.random.default_rng([*self.key, low, high]).permutation(kinds)
