"""Losses of tasks: from logits and labels to a loss per example, and from logits to predictions."""

from collections.abc import Callable
from typing import Literal, Protocol

from torch import Tensor
from torch.nn import functional as F

from mtl.errors import UserError
from mtl.modules.binary_losses import Binary as Binary
from mtl.modules.binary_losses import Ordinal as Ordinal
from mtl.modules.token_losses import TokenCrossEntropy
from mtl.tasks import Task, TaskKind

LossName = Literal[
    "cross_entropy",
    "ordinal",
    "binary",
    "cross_entropy_ordinal",
    "cross_entropy_binary",
    "squared_error",
    "cosine",
    "token_cross_entropy",
]


class Loss(Protocol):
    """What a method needs to know of a task's loss.

    Attributes:
        size: Number of logits (or values) per example.
        of_values: Whether the outputs are values instead of a distribution.
        compares_texts: Whether the head has to compare the two texts of a pair.
    """

    size: int
    of_values: bool
    compares_texts: bool

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of each example, shape (examples,), from logits of shape (examples, size).

        The loss of an example whose class is unknown (-1) is 0.
        """

    def outputs(self, logits: Tensor) -> Tensor:
        """Class probabilities, shape (examples, classes), or values, shape (examples, 1)."""

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Divergence of other logits from the logits, per example, shape (examples,)."""


class CrossEntropy:
    """Cross-entropy of the softmax over the classes.

    Args:
        classes: Number of classes.
    """

    of_values = False
    compares_texts = False

    def __init__(self, classes: int) -> None:
        self.size = classes

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Negative log-probability of each example's class."""
        return F.cross_entropy(logits, labels, reduction="none", ignore_index=-1)

    def outputs(self, logits: Tensor) -> Tensor:
        """The softmax."""
        return logits.softmax(-1)

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Kullback-Leibler divergence KL(softmax(logits) || softmax(others))."""
        return F.kl_div(
            others.log_softmax(-1), logits.log_softmax(-1), reduction="none", log_target=True
        ).sum(-1)


class SquaredError:
    """Squared error of one value per example."""

    of_values = True
    compares_texts = False

    def __init__(self) -> None:
        self.size = 1

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Squared error of each example."""
        return (logits[:, 0] - labels.float()) ** 2

    def outputs(self, logits: Tensor) -> Tensor:
        """The values, unchanged."""
        return logits

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Squared difference."""
        return (logits[:, 0] - others[:, 0]) ** 2


class CosineSquaredError(SquaredError):
    """Squared error of the cosine between a pair's two texts, scaled to the task's range."""

    compares_texts = True


class Both:
    """The sum of two losses on separate logits; probabilities are the mean of the two.

    The CS224N project adds the logits of the two heads instead, which requires equal numbers of
    logits (`BothAdded`); `Ordinal` has one fewer.

    Args:
        first: The loss on the first `first.size` logits.
        second: The loss on the other logits.
    """

    of_values = False
    compares_texts = False

    def __init__(self, first: Loss, second: Loss) -> None:
        self.first, self.second = first, second
        self.size = first.size + second.size

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sum of the two losses."""
        first, second = self._split(logits)
        return self.first.example_losses(first, labels) + self.second.example_losses(second, labels)

    def outputs(self, logits: Tensor) -> Tensor:
        """Mean of the two probabilities."""
        first, second = self._split(logits)
        return (self.first.outputs(first) + self.second.outputs(second)) / 2

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Sum of the two divergences."""
        first, second = self._split(logits)
        other_first, other_second = self._split(others)
        return self.first.divergences(first, other_first) + self.second.divergences(
            second, other_second
        )

    def _split(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return logits[:, : self.first.size], logits[:, self.first.size :]


class BothAdded(Both):
    """`Both` with a prediction from the sum of the two losses' logits, as in the CS224N project.

    The losses have equal numbers of logits.
    """

    def outputs(self, logits: Tensor) -> Tensor:
        """Softmax of the sum of the two heads' logits."""
        first, second = self._split(logits)
        return (first + second).softmax(-1)


LOSSES: dict[str, Callable[[TaskKind], Loss]] = {
    "cross_entropy": lambda kind: CrossEntropy(kind.output_size),
    "ordinal": lambda kind: Ordinal(kind.output_size),
    "binary": lambda kind: Binary(kind.output_size),
    "cross_entropy_ordinal": lambda kind: Both(
        CrossEntropy(kind.output_size), Ordinal(kind.output_size)
    ),
    "cross_entropy_binary": lambda kind: BothAdded(
        CrossEntropy(kind.output_size), Binary(kind.output_size)
    ),
    "squared_error": lambda kind: SquaredError(),
    "cosine": lambda kind: CosineSquaredError(),
    "token_cross_entropy": lambda kind: TokenCrossEntropy(kind.output_size),
}
"""The losses that `TaskKind.losses` names."""


def make_loss(task: Task, name: LossName | None = None) -> Loss:
    """The loss of a task.

    Args:
        task: The task.
        name: Name of the loss; default: the first of the kind's losses.

    Raises:
        UserError: If the loss does not fit the task.
    """
    allowed = task.kind.losses
    name_or_default = name or allowed[0]
    if name_or_default not in allowed:
        raise UserError(
            f"losses: {name!r} cannot be trained for {task.name!r}, a {task.kind.name} task. "
            f"Choose from: {', '.join(allowed)}"
        )
    loss = LOSSES[name_or_default](task.kind)
    if loss.compares_texts and not task.pair:
        raise UserError(
            f"losses: {name!r} compares the two texts of a pair, but {task.name!r} has one text; "
            f"choose {allowed[0]!r}, or declare two text columns"
        )
    return loss
