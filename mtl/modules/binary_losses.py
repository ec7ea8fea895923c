"""Losses for classes that are sums of binary decisions: one against the rest, and ordinal."""

import torch
from torch import Tensor
from torch.nn import functional as F


class WeightedByClass:
    """A loss whose weight depends on the example's class."""

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of each example."""
        raise NotImplementedError

    def weighted_losses(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Loss of each example times the weight of its class."""
        return self.example_losses(logits, labels) * weights[labels.clamp(min=0)]


class Binary(WeightedByClass):
    """One-against-rest: the mean over the classes of the binary cross-entropies.

    Source: the CS224N project's "multiple binary entropy" (specification C.3).

    Args:
        classes: Number of classes.
    """

    of_values = False
    compares_texts = False

    def __init__(self, classes: int) -> None:
        self.size = self.classes = classes

    def targets(self, labels: Tensor) -> Tensor:
        """Target of each logit, 0 or 1, shape (examples, size)."""
        return F.one_hot(labels, self.classes).float()

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean binary cross-entropy over an example's logits."""
        known = labels >= 0
        losses = F.binary_cross_entropy_with_logits(
            logits, self.targets(labels.clamp(min=0)), reduction="none"
        )
        return losses.mean(-1) * known

    def outputs(self, logits: Tensor) -> Tensor:
        """Sigmoids of the logits, normalized to sum to 1."""
        positive = logits.sigmoid()
        return positive / positive.sum(-1, keepdim=True)

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Kullback-Leibler divergence between Bernoulli distributions, mean over the logits."""
        positive = logits.sigmoid()
        return (
            positive * (F.logsigmoid(logits) - F.logsigmoid(others))
            + (1 - positive) * (F.logsigmoid(-logits) - F.logsigmoid(-others))
        ).mean(-1)


class Ordinal(Binary):
    """For ordered classes: one binary logit per threshold, "is the class above k?".

    Source: Frank and Hall 2001; Niu et al. 2016, section 3.2.

    Args:
        classes: Number of classes; there are `classes - 1` thresholds.
    """

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.size = classes - 1

    def targets(self, labels: Tensor) -> Tensor:
        """1 for each threshold below the example's class, shape (examples, classes - 1)."""
        return (labels.unsqueeze(-1) > torch.arange(self.size, device=labels.device)).float()

    def outputs(self, logits: Tensor) -> Tensor:
        """Differences between neighbouring thresholds' probabilities, clamped at 0, normalized."""
        above = logits.sigmoid()
        one, zero = above.new_ones(len(above), 1), above.new_zeros(len(above), 1)
        shares = (torch.cat([one, above], 1) - torch.cat([above, zero], 1)).clamp(min=0)
        return shares / shares.sum(-1, keepdim=True)
