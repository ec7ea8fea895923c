"""Small parts that adapt a layer: bottlenecks, and low-rank changes of its linear maps."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl.modules.heads import linear

Activation = Literal["relu", "gelu"]
Init = Literal["zero", "normal"]


class Bottleneck(nn.Module):
    """W_up f(W_down x), without the residual.

    Source: Houlsby et al. 2019, section 2.1.

    Args:
        width: Size H of the hidden states.
        size: Size of the bottleneck.
        activation: f.
        init: `zero`: what comes out is 0 at first, so that the encoder starts as it was; `normal`: N(0, 0.02).
    """

    def __init__(
        self, width: int, size: int, activation: Activation = "relu", init: Init = "zero"
    ) -> None:
        super().__init__()
        self.down, self.up = linear(width, size), linear(size, width)
        self.activation = F.relu if activation == "relu" else F.gelu
        if init == "zero":
            nn.init.zeros_(self.up.weight)

    def forward(self, states: Tensor) -> Tensor:
        """(rows, length, H) -> (rows, length, H)."""
        return self.up(self.activation(self.down(states)))


class LowRank(nn.Module):
    """What LoRA adds to a linear map: (alpha / r) B A x, with A as a linear layer starts and B zero.

    Source: Hu et al. 2022, section 4.1.

    Args:
        inputs: Size of x.
        outputs: Size of the map's output.
        rank: r.
        alpha: The scale's numerator.
        dropout: Share of x's entries dropped in training.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)
        nn.init.kaiming_uniform_(self.a.weight, a=math.sqrt(5))
        nn.init.zeros_(self.b.weight)
        self.scale, self.dropout = alpha / rank, nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """(rows, length, inputs) -> (rows, length, outputs)."""
        return self.scale * self.b(self.a(self.dropout(states)))

    def merged(self) -> Tensor:
        """What it adds to the map's weight, (outputs, inputs)."""
        return self.scale * torch.mm(self.b.weight, self.a.weight)
