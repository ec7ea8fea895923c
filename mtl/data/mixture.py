"""Random orders with a given number of items of each kind. No torch here."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mtl.data.permutation import Ints

Floats = npt.NDArray[np.float64]


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
