"""The base class of methods that add a domain loss to the label loss of each example."""

from abc import abstractmethod
from typing import Any

from torch import Tensor

from mtl.batch import Batch, Segment
from mtl.bounds import NonNegative
from mtl.methods.joint import Joint


class DomainMethod(Joint):
    """One classifier for the domains of a group, and a loss on the domain of each example.

    Args:
        domain_weight: Weight of the domain loss, relative to the label loss.
    """

    def __init__(self, domain_weight: NonNegative, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.domain_weight = domain_weight
        self._domain_losses: Tensor | None = None  # of the current step, per example
        self._mean_domain_loss: Tensor | None = None

    @abstractmethod
    def logits_and_domain_losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits of all classes, shape (B, classes), and each example's domain loss, shape (B,)."""

    def example_weights(self, segment: Segment) -> tuple[Tensor | float, Tensor | float]:
        """Weights of the label losses and domain losses.

        Returns:
            Two tensors of shape (len(segment.labels),), or a number for all examples.
        """
        return 1.0, 1.0

    def task_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Mean of the label and domain losses of each task present."""
        self._domain_losses = None
        losses = super().task_losses(batch)
        self._domain_losses = None
        return losses

    def training_logits(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of all classes of each task present.

        The first forward pass of a step also computes the domain losses. Later ones, by which a
        regularizer evaluates perturbed inputs, do not.
        """
        if self._domain_losses is not None or not self.domain_weight:
            return super().training_logits(batch)
        logits, self._domain_losses = self.logits_and_domain_losses(batch)
        self._mean_domain_loss = self._domain_losses.detach().mean()
        return {segment.task: logits[segment.examples] for segment in batch.segments}

    def training_example_losses(self, segment: Segment, logits: Tensor) -> Tensor:
        """Weighted sum of label and domain loss of each example, shape (len(segment.labels),)."""
        label_weights, domain_weights = self.example_weights(segment)
        label_losses = label_weights * self.example_losses(segment, logits)
        if self._domain_losses is None:
            return label_losses
        domain_losses = self._domain_losses[segment.examples][: len(segment.labels)]
        return label_losses + self.domain_weight * (domain_weights * domain_losses)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The combined loss; also logs the domain loss, which can be compared to that of chance."""
        loss = super().training_step(batch, batch_idx)
        if self._mean_domain_loss is not None:
            self.log("domain/loss", self._mean_domain_loss, batch_size=1)
        return loss
