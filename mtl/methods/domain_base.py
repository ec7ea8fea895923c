"""What methods share that add to each row's loss one on the row's domain."""

from abc import abstractmethod
from typing import Any

from torch import Tensor

from mtl.batch import Batch, Segment
from mtl.methods.joint import Joint


class DomainMethod(Joint):
    """One classifier for the domains of a group, which share their classes, and a loss on the domain of each row.

    Args:
        domain_weight: What the domains' loss counts for beside the labels'.
    """

    def __init__(self, domain_weight: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.domain_weight = domain_weight
        self._domain_rows: Tensor | None = None  # of the batch of the step under way
        self._domain_loss: Tensor | None = None

    @abstractmethod
    def passed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits of all classes, (B, classes), and each row's domain loss, (B,)."""

    def row_weights(self, segment: Segment) -> tuple[Tensor | float, Tensor | float]:
        """What each row's label loss and domain loss count for, each (len(segment.labels),) or one number."""
        return 1.0, 1.0

    def task_losses(self, batch: Batch) -> dict[str, Tensor]:
        """For each task present the mean of its rows' losses of label and domain."""
        self._domain_rows = None
        losses = super().task_losses(batch)
        self._domain_rows = None
        return losses

    def training_logits(self, batch: Batch) -> dict[str, Tensor]:
        """For each task present its rows' logits of all classes.

        The first pass of a step also finds the rows' domain losses; those of a regulariser, of changed inputs, do not.
        """
        if self._domain_rows is not None or not self.domain_weight:
            return super().training_logits(batch)
        logits, self._domain_rows = self.passed(batch)
        self._domain_loss = self._domain_rows.detach().mean()
        return {segment.task: logits[segment.examples] for segment in batch.segments}

    def training_example_losses(self, segment: Segment, logits: Tensor) -> Tensor:
        """Each row's label loss and domain loss, weighted, (len(segment.labels),)."""
        label, domain = self.row_weights(segment)
        rows = label * self.example_losses(segment, logits)
        if self._domain_rows is None:
            return rows
        own = domain * self._domain_rows[segment.examples][: len(segment.labels)]
        return rows + self.domain_weight * own

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One loss of all tasks present; the domains' part of it is logged, to be held against that of chance."""
        loss = super().training_step(batch, batch_idx)
        if self._domain_loss is not None:
            self.log("domain/loss", self._domain_loss, batch_size=1)
        return loss
