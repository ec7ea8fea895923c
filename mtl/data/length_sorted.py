"""Rows of similar length together, so that little is padded."""

import numpy as np
import numpy.typing as npt

from mtl.data.order import Draw


class LengthSortedOrder:
    """One task's rows from the longest to the shortest, each exactly once: the order of evaluation.

    The longest batch comes first, so that a batch too large for the memory fails at once.

    Args:
        task: The task's place in the list of tasks.
        lengths: Tokens of each row, shape (rows,).
        batch_size: Rows in a batch at most.
    """

    def __init__(self, task: int, lengths: npt.NDArray[np.integer], batch_size: int) -> None:
        self.task, self.batch_size = task, batch_size
        self._rows = np.argsort(-lengths.astype(np.int64), kind="stable")
        self.steps = -(-len(lengths) // batch_size)

    def __call__(self, epoch: int, step: int) -> list[Draw]:
        """The rows of a step, whatever the epoch."""
        return [Draw(self.task, self._rows[step * self.batch_size : (step + 1) * self.batch_size])]
