"""Low-rank updates that tasks share in part (MTL-LoRA)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl.modules.per_task import PerTask
from mtl.tasks import Task


class TaskMix(nn.Module):
    """A task's share of an update: its matrix Lambda, and its weights of the matrices B.

    Lambda is the identity at first; the weights are drawn as in the authors' code.

    Args:
        rank: The rank r.
        count: Number n of matrices B.
        temperature: Divides the weights before their softmax.
    """

    def __init__(self, rank: int, count: int, temperature: float) -> None:
        super().__init__()
        self.transform = nn.Linear(rank, rank, bias=False)
        nn.init.eye_(self.transform.weight)
        self.weights = nn.Parameter(torch.empty(count).uniform_(-1, 1) / math.sqrt(count))
        self.temperature = temperature

    def shares(self) -> Tensor:
        """The weight of each matrix B, shape (n,), positive and of sum 1."""
        return (self.weights.float() / self.temperature).softmax(0)

    def forward(self, reduced: Tensor) -> Tensor:
        """Maps A x, shape (examples, length, r), to (examples, n, length, r): one for each B."""
        shares = self.shares().to(reduced.dtype)
        return shares[None, :, None, None] * self.transform(reduced)[:, None]


class MultiTaskLowRank(nn.Module):
    """MTL-LoRA's update of a linear layer: (alpha / r) sum_i w_ti B_i Lambda_t A x for task t.

    A is shared and initialized like a linear layer; the matrices B_i are shared and zero at first.

    Source: Yang et al. 2024 (arXiv 2410.09437), section on MTL-LoRA; initialization and scale are
    those of the authors' code.

    Args:
        tasks: The tasks.
        inputs: Input size of the linear layer.
        outputs: Output size of the linear layer.
        rank: The rank r.
        alpha: Numerator of the scale.
        dropout: Dropout probability of the entries of x.
        count: Number n of matrices B.
        temperature: Divides the weights w before their softmax.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: int,
        outputs: int,
        rank: int,
        alpha: float,
        dropout: float,
        count: int,
        temperature: float,
    ) -> None:
        super().__init__()
        self.a = nn.Linear(inputs, rank, bias=False)
        nn.init.kaiming_uniform_(self.a.weight, a=math.sqrt(5))
        self.b = nn.ModuleList(nn.Linear(rank, outputs, bias=False) for _ in range(count))
        for weight in self.b.parameters():
            nn.init.zeros_(weight)
        self.mixes = PerTask(tasks, lambda task: TaskMix(rank, count, temperature))
        self.scale, self.dropout = alpha / rank, nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Maps (examples, length, inputs) to (examples, length, outputs)."""
        mixed = self.mixes.apply_per_task(self.a(self.dropout(states)))
        updates = [matrix(mixed[:, index]) for index, matrix in enumerate(self.b)]
        return self.scale * torch.stack(updates).sum(0)

    def merged(self, task: str) -> Tensor:
        """The matrix to add to the linear layer's weight for a task, shape (outputs, inputs)."""
        mix = self.mixes[task]
        b = torch.einsum("n,nor->or", mix.shares(), torch.stack(list(self.b.parameters())))
        return self.scale * b @ mix.transform.weight @ self.a.weight
