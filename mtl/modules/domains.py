"""Losses on which domain a row is from: against a wrong domain, or against the right one with its gradient reversed."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from mtl.modules.heads import LinearHead


class DomainCorruption(nn.Module):
    """A domain classifier trained on corrupted labels: the domains of the batch's rows, permuted anew for each layer.

    For each chosen layer the row's mean state plus the embedding of its true domain is classified by one linear layer, the
    same for all layers. The loss's floor is the entropy of the batch's domains, ln K where they are equally many. A batch of
    one domain has nothing to permute, so there the corrupted labels are drawn evenly from all domains.

    Source: Wang et al. 2020 (MFT), section 3.3; sizes and initial values from its release, specification B2.1.

    Args:
        width: Size H of a state.
        domains: Their number K.
    """

    def __init__(self, width: int, domains: int) -> None:
        super().__init__()
        self.domains = nn.Embedding(domains, width)
        self.classifier = nn.Linear(width, domains)
        nn.init.trunc_normal_(self.domains.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, means: Tensor, domains: Tensor, several: bool = True) -> Tensor:
        """Each row's loss, the mean over layers, shape (B,).

        Args:
            means: Each row's mean state in each layer, (B, layers, H).
            domains: Each row's true domain, int64, (B,).
            several: Whether the rows are of more than one domain.
        """
        logits = self.classifier(
            means + self.domains(domains).unsqueeze(1)
        ).float()  # (B, layers, K)
        if several:
            wrong = torch.stack(
                [
                    domains[torch.randperm(len(domains), device=domains.device)]
                    for _ in range(means.shape[1])
                ],
                1,
            )
        else:
            wrong = torch.randint(
                self.domains.num_embeddings, means.shape[:2], device=domains.device
            )
        return (
            F.cross_entropy(logits.flatten(0, 1), wrong.flatten(), reduction="none")
            .view_as(wrong)
            .mean(1)
        )


class GradientReversal(Function):
    """Passes values on as they are, and gradients back with the other sign, times a strength.

    Source: Ganin and Lempitsky 2015, section 3.2.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: float) -> Tensor:
        """The values."""
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """The gradient against the values."""
        return -ctx.strength * gradients[0], None


class DomainClassifier(nn.Module):
    """A classifier of a row's domain, from whose gradient the encoder learns to hide it.

    Args:
        width: Size H of a row's vector.
        domains: Their number K.
        dropout: Share of the entries dropped in training.
    """

    def __init__(self, width: int, domains: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.head = LinearHead(width, domains, dropout, hidden=1)

    def forward(self, vectors: Tensor, domains: Tensor, strength: float) -> Tensor:
        """Each row's cross-entropy, shape (B,); vectors (B, H) get its gradient reversed, times the strength."""
        logits = self.head(GradientReversal.apply(vectors, strength)).float()
        return F.cross_entropy(logits, domains, reduction="none")


def evenly_spaced(layers: int, count: int = 4) -> list[int]:
    """Layers at equal distances of which the last is the encoder's last, counted from 0; all where there are no more.

    >>> evenly_spaced(12)
    [2, 5, 8, 11]
    >>> evenly_spaced(6)
    [0, 2, 3, 5]
    >>> evenly_spaced(2)
    [0, 1]
    """
    count = min(count, layers)
    return [layers * (place + 1) // count - 1 for place in range(count)]


def checked_layers(chosen: Sequence[int] | None, layers: int) -> list[int]:
    """The layers chosen, or those evenly spaced.

    Raises:
        ValueError: If the encoder has no such layer.
    """
    if chosen is None:
        return evenly_spaced(layers)
    if not chosen:
        raise ValueError("layers: name at least one, or leave it out")
    if unknown := [layer for layer in chosen if not 0 <= layer < layers]:
        raise ValueError(
            f"layers: there is no layer {unknown[0]}; the encoder's are 0 to {layers - 1}"
        )
    return list(chosen)
