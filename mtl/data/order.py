"""Which rows meet in which step, as arithmetic on integers: no state, no torch, so that a run resumes anywhere."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

FEISTEL_ROUNDS = 6
# Up to so many things are shuffled in memory.
FEW = 1024
# Neighbouring batches that exchange rows at most, and windows of them in a pass at least. Larger windows pad less and mix
# less: in small tasks the same rows would meet in every pass (experiments/bench/padding.py).
WINDOW, WINDOWS = 64, 2
# Tells the random order of steps in a window from that of rows.
GROUPING_KEY = 1


class Draw(NamedTuple):
    """Rows of one task that meet in a step, of all processes together.

    Attributes:
        task: The task's place in the list of tasks.
        examples: Indices into the task's split; none twice, unless the scheme draws with replacement.
    """

    task: int
    examples: Ints


class Order(Protocol):
    """What each step of each epoch draws: the same for whoever asks, whenever.

    Attributes:
        steps: Batches in an epoch.
    """

    steps: int

    def __call__(self, epoch: int, step: int) -> list[Draw]:
        """The draws of a step, at most one for each task, each with at least one row."""
        ...


class Permutation:
    """A random order of `range(size)` that is computed place by place, in memory that does not grow with the size.

    Places are scrambled within the next power of two by Feistel rounds, which are one-to-one whatever their round
    function, and again until they fall below the size ("cycle walking"), which keeps the whole one-to-one. A few things
    are shuffled outright: on so few bits the rounds would favour some orders.

    Args:
        size: Number of things to put in order.
        key: Numbers that name the permutation: other numbers, another order.
    """

    def __init__(self, size: int, key: Sequence[int]) -> None:
        self.size = size
        self._shuffled = np.random.default_rng(list(key)).permutation(size) if size <= FEW else None
        bits = max(2, (size - 1).bit_length())
        self._low = np.uint64(
            bits // 2
        )  # bits of the lower part; the upper one has as many or one more
        self._masks = np.uint64((1 << (bits - bits // 2)) - 1), np.uint64((1 << (bits // 2)) - 1)
        self._keys = np.random.SeedSequence(list(key)).generate_state(FEISTEL_ROUNDS, np.uint64)

    def __call__(self, places: npt.ArrayLike) -> Ints:
        """What stands at the places, each in `range(size)`."""
        if self._shuffled is not None:
            return self._shuffled[np.asarray(places)]
        values = self._scrambled(np.asarray(places, dtype=np.uint64))
        outside = np.flatnonzero(values >= self.size)
        while len(outside):
            values[outside] = again = self._scrambled(values[outside])
            outside = outside[again >= self.size]
        return values.astype(np.int64)

    def _scrambled(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        upper, lower = self._masks
        left, right = values >> self._low, values & lower
        for key in (
            self._keys
        ):  # the parts change sides, and with them their sizes; after an even number they are back
            left, right = right, left ^ (_mixed(right + key) & upper)
            upper, lower = lower, upper
        return (left << self._low) | right


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Every bit of a number spread over all of its bits (the finaliser of splitmix64; wraps around on purpose)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Stream:
    """The batches of one task, pass after pass: every pass gives each row exactly once, in an order of its own.

    A pass is cut into batches of nearly equal size, so that none is tiny and none holds a row twice.

    Args:
        task: The task's place in the list of tasks.
        size: The task's number of rows.
        batch_size: Rows in a batch at most.
        seed: The run's seed.
        lengths: Tokens of each row, shape (size,). Where given, rows of similar length meet: neighbouring batches of a
            pass exchange rows.
    """

    def __init__(
        self, task: int, size: int, batch_size: int, seed: int, lengths: Ints | None = None
    ) -> None:
        self.task, self.size, self.seed, self.lengths = task, size, seed, lengths
        self.batches = -(-size // batch_size)
        self.windows = -(-self.batches // window(self.batches))
        self._window: tuple[tuple[int, int], list[Ints]] | None = (
            None  # the last one computed, nothing else is kept
        )

    def __call__(self, number: int) -> Draw:
        """The batch with this number, counted from the task's first batch ever."""
        epoch, batch = divmod(number, self.batches)
        if self.lengths is None:
            return Draw(self.task, self._rows(epoch, batch, batch + 1))
        window = ((batch + 1) * self.windows - 1) // self.batches
        if self._window is None or self._window[0] != (epoch, window):
            self._window = (epoch, window), self._exchanged(epoch, window)
        return Draw(self.task, self._window[1][batch - self.batches * window // self.windows])

    def _rows(self, epoch: int, first: int, last: int) -> Ints:
        """Rows of the batches from `first` to before `last` of a pass, before any exchange."""
        start, end = (self.size * batch // self.batches for batch in (first, last))
        return Permutation(self.size, (self.seed, self.task, epoch))(np.arange(start, end))

    def _exchanged(self, epoch: int, window: int) -> list[Ints]:
        """The batches of a window, a few neighbours in a pass, after they have exchanged rows."""
        assert self.lengths is not None
        first, last = (self.batches * place // self.windows for place in (window, window + 1))
        rows = self._rows(epoch, first, last)
        ends = np.array([self.size * batch // self.batches for batch in range(first, last + 1)])
        steps = np.repeat(np.arange(last - first), np.diff(ends))
        order = grouped(self.lengths[rows], steps, (self.seed, self.task, epoch, window))
        return np.split(rows[order], (ends - ends[0])[1:-1])


def window(batches: int) -> int:
    """How many neighbours of the batches of a pass exchange rows."""
    return max(1, min(WINDOW, batches // WINDOWS))


def grouped(lengths: Ints, steps: Ints, key: Sequence[int], kinds: Ints | None = None) -> Ints:
    """Which thing goes to which place, so that things of similar length meet in a step, and kinds keep their places.

    Things of a kind are sorted by length and dealt out over the steps, these in a random order: lengths neither rise
    nor fall from step to step. Where steps hold several kinds, the step that gets the longest of one gets the longest
    of all.

    Args:
        lengths: Tokens of each thing, shape (n,).
        steps: The step of each place, from 0 without gaps, shape (n,).
        key: Names the random order of the steps.
        kinds: The kind of each thing and of its place, shape (n,); all alike where absent.

    Returns:
        For each place the thing that goes there, shape (n,).
    """
    kinds = np.zeros_like(steps) if kinds is None else kinds
    count = int(steps.max()) + 1
    ranks = Permutation(count, (*key, GROUPING_KEY))(np.arange(count))
    order = np.empty(len(steps), np.int64)
    # Within a step in random order: nothing else may go by length, such as whose score a row borrows.
    chance = Permutation(len(steps), (*key, GROUPING_KEY, GROUPING_KEY))(np.arange(len(steps)))
    order[np.lexsort((chance, ranks[steps], kinds))] = np.lexsort((lengths, kinds))
    return order


class Mixture:
    """Things of several kinds in a random order, every order as likely as any other, computed block by block.

    A block knows how many of each kind stand before it, so nothing is counted from the start: the whole is halved down
    to the block, and each halving draws from the multivariate hypergeometric distribution how many of each kind fall on
    its left. Memory grows with the number of kinds, not of things (fewer than 1e9).

    Args:
        counts: Things of each kind, shape (kinds,).
        block: Things in a block; the last may hold fewer.
        key: Numbers that name the order: other numbers, another order.
    """

    def __init__(self, counts: Ints, block: int, key: Sequence[int]) -> None:
        self.counts, self.size, self.key = counts, block, list(key)
        self.total = int(counts.sum())
        self._last: tuple[int, Ints, Ints] | None = None

    def block(self, number: int) -> tuple[Ints, Ints]:
        """How many of each kind stand before a block, shape (kinds,), and the kinds in the block, shape (things,)."""
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
