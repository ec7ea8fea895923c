"""Losses of tasks: from logits and labels to a loss per example, and from logits to predictions."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from mtl.modules.binary_losses import WeightedByClass


class Loss(Protocol):
    """What a method needs to know of a task's loss.

    Attributes:
        size: Number of logits (or values) per example.
        of_values: Whether the outputs are values instead of a distribution.
        compares_texts: Whether the head has to compare the two texts of a pair.
    """

    size: int
    of_values: bool
    compares_texts: bool

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of each example, shape (examples,), from logits of shape (examples, size).

        The loss of an example without label is 0, and so is its gradient.
        """

    def weighted_losses(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """The same with a factor for each class, shape (classes,)."""

    def outputs(self, logits: Tensor) -> Tensor:
        """Class probabilities, shape (examples, classes), or values, shape (examples, 1)."""

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Divergence of other logits from the logits, per example, shape (examples,)."""


class CrossEntropy(WeightedByClass):
    """Cross-entropy of the softmax over the classes.

    Args:
        classes: Number of classes.
        smoothing: Share of the target that is spread evenly over all classes.
    """

    of_values = False
    compares_texts = False

    def __init__(self, classes: int, smoothing: float = 0.0) -> None:
        self.size, self.smoothing = classes, smoothing

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Negative log-probability of each example's class."""
        return F.cross_entropy(
            logits, labels, reduction="none", ignore_index=-1, label_smoothing=self.smoothing
        )

    def outputs(self, logits: Tensor) -> Tensor:
        """The softmax."""
        return logits.softmax(-1)

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Kullback-Leibler divergence KL(softmax(logits) || softmax(others))."""
        return F.kl_div(
            others.log_softmax(-1), logits.log_softmax(-1), reduction="none", log_target=True
        ).sum(-1)


class Focal(CrossEntropy):
    """Cross-entropy times (1 - p)^gamma for the probability p of the example's class.

    Source: Lin et al. 2017, equation (4).

    Args:
        classes: Number of classes.
        gamma: The exponent; 0 gives cross-entropy.
        smoothing: As in `CrossEntropy`.
    """

    def __init__(self, classes: int, gamma: float = 2.0, smoothing: float = 0.0) -> None:
        super().__init__(classes, smoothing)
        self.gamma = gamma

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The focal loss of each example."""
        right = logits.softmax(-1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        return super().example_losses(logits, labels) * (1 - right) ** self.gamma


class SquaredError:
    """Squared error of one value per example."""

    of_values = True
    compares_texts = False

    def __init__(self) -> None:
        self.size = 1

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Squared error of each example."""
        known = labels == labels  # NaN, a missing target, differs from itself
        return (logits[:, 0] - torch.where(known, labels.float(), logits[:, 0].detach())) ** 2

    def weighted_losses(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Not called: a regression task has no classes."""
        raise NotImplementedError

    def outputs(self, logits: Tensor) -> Tensor:
        """The values, unchanged."""
        return logits

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Squared difference."""
        return (logits[:, 0] - others[:, 0]) ** 2


class CosineSquaredError(SquaredError):
    """Squared error of the cosine between a pair's two texts, scaled to the task's range."""

    compares_texts = True


class Both(WeightedByClass):
    """The sum of two losses on separate logits; probabilities are the mean of the two.

    The CS224N project adds the logits of the two heads instead, which requires equal numbers of
    logits (`BothAdded`); `Ordinal` has one fewer.

    Args:
        first: The loss on the first `first.size` logits.
        second: The loss on the other logits.
    """

    of_values = False
    compares_texts = False

    def __init__(self, first: Loss, second: Loss) -> None:
        self.first, self.second = first, second
        self.size = first.size + second.size

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sum of the two losses."""
        first, second = self._split(logits)
        return self.first.example_losses(first, labels) + self.second.example_losses(second, labels)

    def outputs(self, logits: Tensor) -> Tensor:
        """Mean of the two probabilities."""
        first, second = self._split(logits)
        return (self.first.outputs(first) + self.second.outputs(second)) / 2

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Sum of the two divergences."""
        first, second = self._split(logits)
        other_first, other_second = self._split(others)
        return self.first.divergences(first, other_first) + self.second.divergences(
            second, other_second
        )

    def _split(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return logits[:, : self.first.size], logits[:, self.first.size :]


class BothAdded(Both):
    """`Both` with a prediction from the sum of the two losses' logits, as in the CS224N project.

    The losses have equal numbers of logits.
    """

    def outputs(self, logits: Tensor) -> Tensor:
        """Softmax of the sum of the two heads' logits."""
        first, second = self._split(logits)
        return (first + second).softmax(-1)
