"""Random permutations in memory that does not grow with their size. No torch here."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

FEISTEL_ROUNDS = 6
# Up to this size a permutation is shuffled in memory.
MAX_SHUFFLED = 1024


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
