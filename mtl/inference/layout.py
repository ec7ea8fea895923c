"""What is written for each row of predictions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mtl.tasks import Task


class Layout(NamedTuple):
    """What is written for each row.

    Attributes:
        tasks: The tasks.
        kept: The columns of the input that are written before the predictions.
        threshold: Predictions that are less probable are left empty.
    """

    tasks: Sequence[Task]
    kept: Sequence[str] = ()
    threshold: float = 0.0

    def is_empty(self, task: Task, outputs: Sequence[Any]) -> bool:
        """Whether a prediction is left empty."""
        confidence = task.kind.confidence(outputs)
        return confidence is not None and confidence < self.threshold
