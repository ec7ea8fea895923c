"""Small modules that adapt a layer: bottlenecks, and low-rank updates of its linear layers."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl.modules.initialization import linear
from mtl.modules.per_task import PerTask
from mtl.tasks import Task

Activation = Literal["relu", "gelu"]
Init = Literal["zero", "normal"]


class Bottleneck(nn.Module):
    """W_up f(W_down x), without a residual connection.

    Source: Houlsby et al. 2019, section 2.1.

    Args:
        width: Size H of the hidden states.
        size: Size of the bottleneck.
        activation: The non-linearity f.
        init: Initialization of W_up. `zero`: the output is 0 at first, so the encoder starts
            unchanged; `normal`: N(0, 0.02).
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
        """Maps hidden states (examples, length, H) to the same shape."""
        return self.up(self.activation(self.down(states)))


class LowRankMatrices(nn.Module):
    """The matrices A and B of a low-rank update (alpha / r) B A.

    A is initialized like a linear layer, B with zeros.

    Args:
        inputs: Input size of the linear layer.
        outputs: Output size of the linear layer.
        rank: The rank r.
        alpha: Numerator of the scale.
        dropout: Dropout probability of the entries of x.
        rslora: Whether the scale is alpha / sqrt(r).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rank: int,
        alpha: float,
        dropout: float,
        rslora: bool = False,
    ) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)
        nn.init.kaiming_uniform_(self.a.weight, a=math.sqrt(5))
        nn.init.zeros_(self.b.weight)
        self.scale = alpha / (math.sqrt(rank) if rslora else rank)
        self.dropout = nn.Dropout(dropout)

    def merged(self) -> Tensor:
        """Returns the matrix to add to the linear layer's weight, shape (outputs, inputs)."""
        return self.scale * torch.mm(self.b.weight, self.a.weight)


class LowRank(LowRankMatrices):
    """LoRA's update of a linear layer: (alpha / r) B A x.

    Source: Hu et al. 2022, section 4.1; Kalajdzievski 2023, equation (4) (rsLoRA).
    """

    def forward(self, states: Tensor) -> Tensor:
        """Maps (examples, length, inputs) to (examples, length, outputs)."""
        return self.scale * self.b(self.a(self.dropout(states)))


def shared_or_per_task(
    make: Callable[[], nn.Module], tasks: Sequence[Task] | None
) -> tuple[nn.Module, Callable[..., Tensor]]:
    """Makes one module that all tasks share, or one per task.

    Args:
        make: Makes a module.
        tasks: The tasks that get a module each; None for a shared module.

    Returns:
        The module to register, and the function that applies it inside the encoder. With a module
        per task, the function applies to each example the module of the example's task.
    """
    if tasks is None:
        shared = make()
        return shared, shared
    per_task = PerTask(tasks, lambda task: make())
    return per_task, per_task.apply_per_task


def scaled_size(size: int, width: int, multiple: int = 1) -> int:
    """Scales a size published for a width of 768 to another width, as a multiple of `multiple`."""
    return max(1, round(size * width / 768 / multiple)) * multiple
