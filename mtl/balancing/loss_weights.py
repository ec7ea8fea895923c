"""Balancers with fixed loss weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtl.balancing.base import Balancer
from mtl.batch import TasksPerBatch
from mtl.bounds import NonNegative, check_bounds
from mtl.errors import reject_unknown


class Equal(Balancer):
    """The mean of the losses of the tasks in a batch, however many examples each task has in it."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: dict[str, float] = {}

    def combine(self, losses: Mapping[str, Tensor], examples: Mapping[str, float]) -> Tensor:
        """Mean over tasks of weight times loss; tasks without a weight have weight 1."""
        return torch.stack(
            [self.weights.get(task, 1.0) * loss for task, loss in losses.items()]
        ).mean()


class BySize(Equal):
    """Weights each loss by the task's share of the training examples.

    The weights are scaled so that their mean over tasks is 1.
    """

    def on_fit_start(self, method: Any, sizes: Mapping[str, int]) -> None:
        """Computes the weights from the sizes."""
        mean = sum(sizes.values()) / len(sizes)
        self.weights = {task: size / mean for task, size in sizes.items()}


class Fixed(Equal):
    """Weights each loss by a configured factor. The weights are not normalized.

    Args:
        weights: Weight of each task. Default: 1.

    Raises:
        UserError: Before training, if a name is not a task of the run or a weight is negative.
    """

    def __init__(self, weights: dict[str, NonNegative]) -> None:
        super().__init__()
        self.weights = dict(weights)
        check_bounds(Fixed, vars(self), "balancer ")

    def on_fit_start(self, method: Any, sizes: Mapping[str, int]) -> None:
        """Checks the names."""
        reject_unknown("balancer weights", "task", self.weights, sizes)


class Chebyshev(Fixed):
    """Minimizes the largest weighted loss of the tasks in a batch.

    Weighted Chebyshev scalarization (Miettinen 1998, section 3.4), with 0 as the ideal loss. It
    reaches points of a front that no weighted mean reaches.

    Args:
        weights: Weight of each task. Default: 1.

    Raises:
        UserError: Before training, if a name is not a task of the run or a weight is negative.
    """

    needs: TasksPerBatch = "all"

    def combine(self, losses: Mapping[str, Tensor], examples: Mapping[str, float]) -> Tensor:
        """The largest of weight times loss; tasks without a weight have weight 1."""
        return torch.stack(
            [self.weights.get(task, 1.0) * loss for task, loss in losses.items()]
        ).max()


class PerExample(Balancer):
    """The mean over all examples of a batch: each has the same weight, whatever its task."""

    def combine(self, losses: Mapping[str, Tensor], examples: Mapping[str, float]) -> Tensor:
        """Mean of the losses, weighted by each task's number of examples."""
        return torch.stack([examples[task] * loss for task, loss in losses.items()]).sum() / sum(
            examples[task] for task in losses
        )


class Sum(Balancer):
    """The sum of the losses.

    Parameters of single tasks get their task's full gradient, however many tasks a batch contains.
    """

    def combine(self, losses: Mapping[str, Tensor], examples: Mapping[str, float]) -> Tensor:
        """Sum of the losses."""
        return torch.stack(list(losses.values())).sum()
