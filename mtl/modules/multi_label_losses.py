"""Losses of multi-label tasks: a binary decision for each class."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mtl.modules.binary_losses import Binary


class BinaryCrossEntropy(Binary):
    """The mean over the classes of the binary cross-entropies; the loss without a label is 0.

    Args:
        classes: Number of classes.
        smoothing: Share of each target that is replaced by 1/2.
        gamma: Exponent of the focal factor (1 - p)^gamma, where p is the probability of the right
            decision; 0 for none. Source: Lin et al. 2017, equation (4).
    """

    def __init__(self, classes: int, smoothing: float = 0.0, gamma: float = 0.0) -> None:
        super().__init__(classes)
        self.smoothing, self.gamma = smoothing, gamma

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over an example's classes."""
        return self.weighted_losses(logits, labels, torch.ones_like(logits[0]))

    def weighted_losses(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """The same; the losses of a class's positive examples are multiplied by its weight."""
        positive = torch.nan_to_num(labels.float())
        targets = positive * (1 - self.smoothing) + self.smoothing / 2
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        if self.gamma:
            signs = 2 * positive - 1
            losses = losses * torch.sigmoid(-signs * logits) ** self.gamma
        factors = 1 + positive * (weights - 1)
        return (losses * factors).mean(-1) * (labels[:, 0] == labels[:, 0])

    def outputs(self, logits: Tensor) -> Tensor:
        """Sigmoids of the logits."""
        return logits.sigmoid()
