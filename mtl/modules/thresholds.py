"""Thresholds of multi-label tasks, tuned on validation examples and stored with the model."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mtl.tasks import Task

# Probabilities nearer to 0 or 1 count as this near: their logits would lose precision in fp32.
EPSILON = 1e-6


class Thresholds(nn.Module):
    """For each task with `thresholds: tuned` the log-odds of each class's threshold.

    They are subtracted from the logits, so that 0.5 is the threshold of the outputs: votes,
    exports and files need no threshold of their own. They are 0 (a threshold of 0.5) until they
    are tuned.

    Args:
        tasks: The tasks.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.tuned = {task.name for task in tasks if task.thresholds == "tuned"}
        for task in tasks:
            if task.name in self.tuned:
                self.register_buffer(f"log_odds/{task.name}", torch.zeros(task.kind.output_size))

    def of(self, task: str) -> Tensor:
        """The log-odds of a task's thresholds, shape (classes,)."""
        return cast(Tensor, getattr(self, f"log_odds/{task}"))

    def shifted(self, task: str, logits: Tensor) -> Tensor:
        """The logits minus the log-odds of the thresholds."""
        return logits - self.of(task) if task in self.tuned else logits

    def tune(self, task: str, outputs: Tensor, labels: Tensor) -> Tensor:
        """Moves the thresholds to those with the best F1 of each class.

        Args:
            task: The task.
            outputs: Probabilities with the thresholds so far, shape (examples, classes).
            labels: 0 and 1, shape (examples, classes).

        Returns:
            The change of the log-odds of each class, shape (classes,), fp64.
        """
        logits = torch.special.logit(outputs.double(), eps=EPSILON)
        change = torch.stack(
            [_best_threshold(*column) for column in zip(logits.T, labels.T, strict=True)]
        )
        self.of(task).add_(change.to(self.of(task)))
        return change


def _best_threshold(logits: Tensor, labels: Tensor) -> Tensor:
    """The threshold with the best F1, halfway between two logits; 0 without positive examples.

    Of several, the one that predicts the class least often.
    """
    if not (labels > 0).any():
        return logits.new_zeros(())
    values, order = logits.sort(descending=True)
    correct = (labels[order] > 0).double().cumsum(0)
    predicted = torch.arange(1, len(values) + 1, dtype=torch.double)
    scores = 2 * correct / (predicted + correct[-1])
    following = torch.cat([values[1:], values[-1:] - 1])
    scores[values == following] = -1  # equal values are predicted together
    best = int(scores.argmax())
    return (values[best] + following[best]) / 2
