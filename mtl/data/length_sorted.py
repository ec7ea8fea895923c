"""Examples sorted by length, so that little is padded."""

import numpy as np
import numpy.typing as npt

from mtl.data.order import Draw


class LengthSortedOrder:
    """The order of evaluation: one task's examples from longest to shortest, each exactly once.

    The longest batch comes first, so that a batch too large for the memory fails at once. If an
    evaluation is limited to the first batches, these hold a random sample of the examples, the same
    in every run, from its longest to its shortest; the other examples follow.

    Args:
        task: The task's index in the list of tasks.
        lengths: Tokens of each example, shape (examples,).
        batch_size: Maximum number of examples in a batch.
        limit: Number of batches that are evaluated, or their share of all batches.
    """

    def __init__(
        self,
        task: int,
        lengths: npt.NDArray[np.integer],
        batch_size: int,
        limit: float | None = None,
    ) -> None:
        self.task, self.batch_size = task, batch_size
        self.steps = -(-len(lengths) // batch_size)
        # As Lightning reads a limit: an int is a number, a float a share.
        used = int(self.steps * limit) if isinstance(limit, float) else limit
        sample = (self.steps if used is None else used) * batch_size
        drawn = np.random.default_rng(0).permutation(len(lengths))
        self._examples = np.concatenate(
            [_longest_first(part, lengths) for part in (drawn[:sample], drawn[sample:])]
        )

    def __call__(self, epoch: int, step: int) -> list[Draw]:
        """The examples of a step, the same in every epoch."""
        start = step * self.batch_size
        return [Draw(self.task, self._examples[start : start + self.batch_size])]


def _longest_first(
    examples: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer]
) -> npt.NDArray[np.integer]:
    examples = np.sort(examples)
    return examples[np.argsort(-lengths[examples].astype(np.int64), kind="stable")]
