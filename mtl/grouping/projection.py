"""Projected gradients of single examples."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mtl.grouping.linearized import Examples

# A smaller loss is rounding noise; its margin would be infinite.
SMALLEST_LOSS = 1e-6


class Projection:
    """A random projection that preserves inner products in expectation, for millions of entries.

    The entries get random signs, and entry k is added to coordinate k modulo the dimension (feature
    hashing, Weinberger et al. 2009). A matrix of random signs, as in the authors' code of GradEx,
    has the same property, but as many entries as parameters times dimension.

    Args:
        parameters: The parameters by name.
        dimension: Size of a projected gradient.
        seed: Seed of the signs.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], dimension: int, seed: int) -> None:
        self.parameters, self.dimension = list(parameters.values()), dimension
        generator = torch.Generator().manual_seed(seed)
        self._signs = [
            torch.randint(0, 2, (parameter.numel(),), generator=generator, dtype=torch.int8)
            .mul_(2)
            .sub_(1)
            .to(parameter.device)
            for parameter in self.parameters
        ]

    def gradient(self, value: Tensor) -> Tensor:
        """The projected gradient of a scalar, shape (dimension,), fp32."""
        gradients = torch.autograd.grad(value, self.parameters, allow_unused=True)
        total = torch.zeros(self.dimension, device=value.device)
        for gradient, signs in zip(gradients, self._signs, strict=True):
            if gradient is not None:
                signed = gradient.flatten().float() * signs
                short = -len(signed) % self.dimension
                total += nn.functional.pad(signed, (0, short)).view(-1, self.dimension).sum(0)
        return total


def margin(loss: Tensor) -> Tensor:
    """The m with loss = log(1 + exp(-m)); for cross-entropy the log-odds of the right class."""
    loss = loss.clamp(min=SMALLEST_LOSS)
    return -loss - torch.log(-torch.expm1(-loss))


def stacked(margins: list[Tensor], gradients: list[Tensor]) -> Examples:
    """The examples of one task."""
    return Examples(
        torch.stack(margins).double().cpu().numpy(),
        np.stack([gradient.double().cpu().numpy() for gradient in gradients]),
    )
