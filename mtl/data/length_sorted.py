"""Examples sorted by length, so that little is padded."""

import numpy as np
import numpy.typing as npt

from mtl.data.order import Draw


class LengthSortedOrder:
    """The order of evaluation: one task's examples from longest to shortest, each exactly once.

    The longest batch comes first, so that a batch too large for the memory fails at once.

    Args:
        task: The task's index in the list of tasks.
        lengths: Tokens of each example, shape (examples,).
        batch_size: Maximum number of examples in a batch.
    """

    def __init__(self, task: int, lengths: npt.NDArray[np.integer], batch_size: int) -> None:
        self.task, self.batch_size = task, batch_size
        self._examples = np.argsort(-lengths.astype(np.int64), kind="stable")
        self.steps = -(-len(lengths) // batch_size)

    def __call__(self, epoch: int, step: int) -> list[Draw]:
        """The examples of a step, the same in every epoch."""
        start = step * self.batch_size
        return [Draw(self.task, self._examples[start : start + self.batch_size])]
