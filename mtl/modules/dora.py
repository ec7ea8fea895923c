"""DoRA's change of a linear layer: a low-rank update, and a length for each row of the weight."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from mtl.modules.adapters import LowRankMatrices


class WeightDecomposed(LowRankMatrices):
    """DoRA: W is replaced by (m / |W + D|) (W + D), with D = (alpha / r) B A and row norms |.|.

    The trained vector is m - |W|, 0 at first, so that the weight is W at first, whichever weights
    are loaded later. As in the paper and in peft, |W + D| is a constant in the backward pass.

    Source: Liu et al. 2024, DoRA (arXiv 2402.09353), equations (5) and (11).

    Args:
        linear: The frozen linear layer.
        sizes: The other arguments of `LowRankMatrices`.
    """

    def __init__(self, linear: nn.Module, *sizes: Any) -> None:
        super().__init__(*sizes)
        # In a tuple, so that it is not a part of this module: it belongs to the encoder.
        self._linear = (linear,)
        self.magnitude = nn.Parameter(torch.zeros(self.b.out_features))

    def forward(self, states: Tensor, product: Tensor) -> Tensor:
        """The change of the layer's output.

        Args:
            states: The layer's input x, shape (examples, length, inputs).
            product: W x, shape (examples, length, outputs).
        """
        dropped = self.dropout(states)
        if self.training and self.dropout.p:
            product = F.linear(dropped, self._weight())
        gain = self._gain().to(product.dtype)
        return (gain - 1) * product + gain * self.scale * self.b(self.a(dropped))

    def merged(self) -> Tensor:
        """Returns the matrix to add to the linear layer's weight, shape (outputs, inputs)."""
        weight = self._weight()
        return self._gain()[:, None] * (weight + super().merged()) - weight

    def lengths(self) -> Tensor:
        """The length m of each row, shape (outputs,)."""
        return self._weight().detach().float().norm(dim=1) + self.magnitude

    def _weight(self) -> Tensor:
        (linear,) = self._linear
        weight: Any = linear.weight
        return weight.T if isinstance(linear, Conv1D) else weight

    def _gain(self) -> Tensor:
        """The factor m / |W + D|, in fp32 also with autocast, which would round the product B A."""
        weight = self._weight()
        with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
            norms = (weight + super().merged()).float().norm(dim=1)
        return self.lengths() / norms
