"""Losses of tasks that are predicted by the label words of a prompt."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nan_to_num, stack
from torch.nn import functional as F

from mtl.modules.losses import CrossEntropy, Loss
from mtl.tasks import Task


class Interpolation(CrossEntropy):
    """A number between two label words: the second word's probability, scaled to the range.

    The loss is the Kullback-Leibler divergence of the two words' probabilities from the target's.

    Source: Gao et al. 2021 (LM-BFF), section 4.1, after Mettes et al. 2019.

    Args:
        low: Lowest value.
        high: Highest value.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__(2)
        self.low, self.high = low, high

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Divergence of each example's probabilities from its target's."""
        share = nan_to_num((labels.float() - self.low) / (self.high - self.low))
        target = stack([1 - share, share], -1)
        losses = F.kl_div(logits.log_softmax(-1), target, reduction="none").sum(-1)
        return losses * (labels == labels)

    def outputs(self, logits: Tensor) -> Tensor:
        """The value that the second word's probability stands for, shape (examples, 1)."""
        return self.low + (self.high - self.low) * logits.softmax(-1)[:, 1:]


PROMPT_LOSSES: dict[str, Callable[[Any], Loss]] = {
    "classification": lambda kind: CrossEntropy(kind.output_size),
    "regression": lambda kind: Interpolation(*kind.value_range),
}
"""The loss of each kind of task when it is trained on the logits of its prompt's label words."""


def make_prompt_loss(task: Task) -> Loss:
    """The loss of a task that is predicted by the label words of its prompt."""
    return PROMPT_LOSSES[task.kind.name](task.kind)
