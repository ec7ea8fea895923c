"""Domain losses: predict a corrupted domain label, or the true one with a reversed gradient."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from mtl.errors import UserError, reject_unknown
from mtl.modules.heads import LinearHead


class DomainCorruption(nn.Module):
    """A domain classifier that is trained on corrupted labels: the domains of the batch, permuted.

    For each chosen layer, one linear classifier, shared by the layers, predicts the corrupted label
    from the example's mean state plus the embedding of its true domain. Each layer has its own
    permutation. The minimum of the loss is the entropy of the batch's domains, ln K if they are
    equally frequent. A batch of one domain has nothing to permute, so its corrupted labels are
    sampled uniformly from all domains.

    Source: Wang et al. 2020 (MFT), section 3.3; sizes and initialization from its release,
    specification B2.1.

    Args:
        width: Size H of a state.
        domains: Number K of domains.
    """

    def __init__(self, width: int, domains: int) -> None:
        super().__init__()
        self.domains = nn.Embedding(domains, width)
        self.classifier = nn.Linear(width, domains)
        nn.init.trunc_normal_(self.domains.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, means: Tensor, domains: Tensor, several: bool = True) -> Tensor:
        """Computes the loss of each example, the mean over layers, shape (B,).

        Args:
            means: Mean state of each example in each layer, shape (B, layers, H).
            domains: True domain of each example, int64, shape (B,).
            several: Whether the batch contains more than one domain.
        """
        conditioned = means + self.domains(domains).unsqueeze(1)
        logits = self.classifier(conditioned).float()  # (B, layers, K)
        labels = self._corrupted(domains, means.shape[1], several)  # (B, layers)
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return losses.view_as(labels).mean(1)

    def _corrupted(self, domains: Tensor, layers: int, several: bool) -> Tensor:
        count, device = len(domains), domains.device
        if not several:
            return torch.randint(self.domains.num_embeddings, (count, layers), device=device)
        permuted = [domains[torch.randperm(count, device=device)] for _ in range(layers)]
        return torch.stack(permuted, 1)


class GradientReversal(Function):
    """Identity in the forward pass; multiplies the gradient by a negative strength.

    Source: Ganin and Lempitsky 2015, section 3.2.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: float) -> Tensor:
        """Returns the values."""
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Returns the gradient times -strength."""
        return -ctx.strength * gradients[0], None


class DomainClassifier(nn.Module):
    """A domain classifier whose reversed gradient trains the encoder to remove domain information.

    Args:
        width: Size H of a pooled vector.
        domains: Number K of domains.
        dropout: Dropout probability.
    """

    def __init__(self, width: int, domains: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.head = LinearHead(width, domains, dropout, hidden=1)

    def forward(self, vectors: Tensor, domains: Tensor, strength: float) -> Tensor:
        """Computes the cross-entropy of each example, shape (B,).

        Args:
            vectors: Pooled vectors, shape (B, H); they receive the reversed gradient.
            domains: True domain of each example, int64, shape (B,).
            strength: Factor of the reversed gradient.
        """
        logits = self.head(GradientReversal.apply(vectors, strength)).float()
        return F.cross_entropy(logits, domains, reduction="none")


def evenly_spaced(layers: int, count: int = 4) -> list[int]:
    """Returns `count` evenly spaced layer indices that end with the last layer, or all layers.

    >>> evenly_spaced(12)
    [2, 5, 8, 11]
    >>> evenly_spaced(6)
    [0, 2, 3, 5]
    >>> evenly_spaced(2)
    [0, 1]
    """
    count = min(count, layers)
    return [layers * (index + 1) // count - 1 for index in range(count)]


def checked_layers(chosen: Sequence[int] | None, layers: int) -> list[int]:
    """Returns the chosen layer indices after checking them.

    Args:
        chosen: Layer indices, counted from 0; None for evenly spaced ones.
        layers: Number of the encoder's layers.

    Raises:
        UserError: If no layer is chosen, or the encoder lacks one of them.
    """
    if chosen is None:
        return evenly_spaced(layers)
    if not chosen:
        raise UserError("layers: give at least one layer, or omit the option")
    reject_unknown("layers", "layer", map(str, chosen), map(str, range(layers)))
    return list(chosen)
