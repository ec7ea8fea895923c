"""Weights on losses that follow a rule known beforehand."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtl.balancing.base import Balancer
from mtl.errors import UserError, did_you_mean


class Equal(Balancer):
    """The plain mean of the losses of the tasks present: a task with one row in a batch counts as one with seven."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: dict[str, float] = {}

    def combine(self, losses: Mapping[str, Tensor], rows: Mapping[str, float]) -> Tensor:
        """Mean over the tasks present of weight times loss; a weight is 1 unless given."""
        return torch.stack(
            [self.weights.get(task, 1.0) * loss for task, loss in losses.items()]
        ).mean()


class BySize(Equal):
    """Each loss weighs as its task's share of the training rows, scaled so that the weights' mean over tasks is 1."""

    def on_fit_start(self, method: nn.Module, sizes: Mapping[str, int]) -> None:
        """Takes the weights from the sizes."""
        mean = sum(sizes.values()) / len(sizes)
        self.weights = {task: size / mean for task, size in sizes.items()}


class Fixed(Equal):
    """Each loss weighs as the configuration says, taken as it stands.

    Args:
        weights: For each task its weight; 1 where absent.

    Raises:
        UserError: Before training, if a name is none of the run's tasks, or a weight is negative.
    """

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__()
        self.weights = dict(weights)

    def on_fit_start(self, method: nn.Module, sizes: Mapping[str, int]) -> None:
        """Checks the names and the weights."""
        for task, weight in self.weights.items():
            if task not in sizes:
                raise UserError(
                    f"balancer weights: {task!r} is none of the tasks {list(sizes)}.{did_you_mean(task, sizes)}"
                )
            if weight < 0:
                raise UserError(f"balancer weights: {task!r} has {weight}; a weight is 0 or more")


class PerRow(Balancer):
    """Every row counts the same, whatever its task: the mean over the rows of the step."""

    def combine(self, losses: Mapping[str, Tensor], rows: Mapping[str, float]) -> Tensor:
        """Mean of the losses, each weighted by its task's rows."""
        return torch.stack([rows[task] * loss for task, loss in losses.items()]).sum() / sum(
            rows[task] for task in losses
        )


class Sum(Balancer):
    """The plain sum: each task's own parameters get their whole gradient, however many tasks are present."""

    def combine(self, losses: Mapping[str, Tensor], rows: Mapping[str, float]) -> Tensor:
        """Sum of the losses."""
        return torch.stack(list(losses.values())).sum()
