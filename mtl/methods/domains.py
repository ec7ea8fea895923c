"""What methods share that add to each row's loss one on the row's domain."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mtl.batch import Batch, Segment
from mtl.methods.base import mean_loss
from mtl.methods.joint import Joint


class WithDomains(Joint):
    """One classifier for the domains of a group, which share their classes, and a loss on the domain of each row.

    Args:
        domain_weight: What the domains' loss counts for beside the labels'.
    """

    def __init__(self, domain_weight: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.domain_weight = domain_weight
        self._domain_rows: list[Tensor] = []  # of each pass of the step under way

    @abstractmethod
    def passed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits of all classes, (B, classes), and each row's domain loss, (B,)."""

    def row_weights(self, segment: Segment) -> tuple[Tensor | float, Tensor | float]:
        """What each row's label loss and domain loss count for, each (len(segment.labels),) or one number."""
        return 1.0, 1.0

    def training_logits(self, batch: Batch) -> dict[str, Tensor]:
        """For each task present its rows' logits of all classes; keeps the rows' domain losses for `task_losses`."""
        logits, losses = self.passed(batch)
        self._domain_rows.append(losses)
        return {segment.task: logits[segment.rows] for segment in batch.segments}

    def task_losses(self, batch: Batch) -> dict[str, Tensor]:
        """For each task present the mean of its rows' weighted label losses, and of their domain losses."""
        weights = {segment.task: self.row_weights(segment) for segment in batch.segments}
        self._domain_rows.clear()
        losses = super().task_losses(_weighted(batch, {task: label for task, (label, _) in weights.items()}))
        domain_rows = self._domain_rows[0]  # of the batch as it is; a regulariser's passes of changed inputs come after
        for segment in _weighted(batch, {task: domain for task, (_, domain) in weights.items()}).segments:
            own = mean_loss(segment, domain_rows[segment.rows][: len(segment.labels)])
            losses[segment.task] = losses[segment.task] + self.domain_weight * own
        self._domain_rows.clear()
        return losses


def _weighted(batch: Batch, weights: Mapping[str, Tensor | float]) -> Batch:
    segments = tuple(segment._replace(weights=segment.weights * weights[segment.task]) for segment in batch.segments)
    return batch._replace(segments=segments)
