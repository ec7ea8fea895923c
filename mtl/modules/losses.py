"""Losses of tasks: from logits and labels to a loss per example, and from logits to predictions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl.bounds import NonNegative, ShareBelowOne, check_bounds
from mtl.errors import UserError, reject_unknown
from mtl.modules.binary_losses import Binary as Binary
from mtl.modules.binary_losses import Ordinal as Ordinal
from mtl.modules.binary_losses import WeightedByClass
from mtl.modules.multi_label_losses import BinaryCrossEntropy
from mtl.modules.token_losses import TokenCrossEntropy
from mtl.tasks import MultiLabel, Task, TaskKind

LossName = Literal[
    "cross_entropy",
    "focal",
    "ordinal",
    "binary",
    "cross_entropy_ordinal",
    "cross_entropy_binary",
    "squared_error",
    "cosine",
    "token_cross_entropy",
    "binary_cross_entropy",
]


@dataclass(frozen=True)
class LossOptions:
    """The loss of a task, and its options.

    Args:
        name: Name of the loss; default: that of the task's kind.
        class_weights: Factor of each class's losses in training, by the class's name (1 for the
            others); or `balanced`: N / (K n) for n of the N training examples and K classes, and
            (N - n) / n for the positive examples of multi-label tasks. The mean is over examples,
            not over weights.
        label_smoothing: Share of the target that is spread evenly over all classes.
        gamma: Exponent of `focal`.

    Raises:
        UserError: If a number is out of bounds.
    """

    name: LossName | None = None
    class_weights: Literal["balanced"] | dict[str, NonNegative] | None = None
    label_smoothing: ShareBelowOne = 0.0
    gamma: NonNegative = 2.0

    def __post_init__(self) -> None:
        check_bounds(type(self), vars(self), "losses: ")

    @classmethod
    def of(cls, value: "LossName | LossOptions | Mapping[str, Any] | None") -> "LossOptions":
        """Options from a name, or from a mapping of the fields as a checkpoint holds it."""
        if isinstance(value, cls):
            return value
        return cls(**value) if isinstance(value, Mapping) else cls(cast("LossName | None", value))


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

        The loss of an example without label is 0, and so is its gradient.
        """

    def weighted_losses(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """The same with a factor for each class, shape (classes,)."""

    def outputs(self, logits: Tensor) -> Tensor:
        """Class probabilities, shape (examples, classes), or values, shape (examples, 1)."""

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Divergence of other logits from the logits, per example, shape (examples,)."""


class CrossEntropy(WeightedByClass):
    """Cross-entropy of the softmax over the classes.

    Args:
        classes: Number of classes.
        smoothing: Share of the target that is spread evenly over all classes.
    """

    of_values = False
    compares_texts = False

    def __init__(self, classes: int, smoothing: float = 0.0) -> None:
        self.size, self.smoothing = classes, smoothing

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Negative log-probability of each example's class."""
        return F.cross_entropy(
            logits, labels, reduction="none", ignore_index=-1, label_smoothing=self.smoothing
        )

    def outputs(self, logits: Tensor) -> Tensor:
        """The softmax."""
        return logits.softmax(-1)

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Kullback-Leibler divergence KL(softmax(logits) || softmax(others))."""
        return F.kl_div(
            others.log_softmax(-1), logits.log_softmax(-1), reduction="none", log_target=True
        ).sum(-1)


class Focal(CrossEntropy):
    """Cross-entropy times (1 - p)^gamma for the probability p of the example's class.

    Source: Lin et al. 2017, equation (4).

    Args:
        classes: Number of classes.
        gamma: The exponent; 0 gives cross-entropy.
        smoothing: As in `CrossEntropy`.
    """

    def __init__(self, classes: int, gamma: float = 2.0, smoothing: float = 0.0) -> None:
        super().__init__(classes, smoothing)
        self.gamma = gamma

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The focal loss of each example."""
        right = logits.softmax(-1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        return super().example_losses(logits, labels) * (1 - right) ** self.gamma


class SquaredError:
    """Squared error of one value per example."""

    of_values = True
    compares_texts = False

    def __init__(self) -> None:
        self.size = 1

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Squared error of each example."""
        known = labels == labels  # NaN, a missing target, differs from itself
        return (logits[:, 0] - torch.where(known, labels.float(), logits[:, 0].detach())) ** 2

    def weighted_losses(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Not called: a regression task has no classes."""
        raise NotImplementedError

    def outputs(self, logits: Tensor) -> Tensor:
        """The values, unchanged."""
        return logits

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Squared difference."""
        return (logits[:, 0] - others[:, 0]) ** 2


class CosineSquaredError(SquaredError):
    """Squared error of the cosine between a pair's two texts, scaled to the task's range."""

    compares_texts = True


class Both(WeightedByClass):
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


def _cross_entropy(kind: TaskKind, options: LossOptions) -> CrossEntropy:
    return CrossEntropy(kind.output_size, options.label_smoothing)


def _focal(kind: TaskKind, options: LossOptions) -> Loss:
    if isinstance(kind, MultiLabel):
        return BinaryCrossEntropy(kind.output_size, options.label_smoothing, options.gamma)
    return Focal(kind.output_size, options.gamma, options.label_smoothing)


LOSSES: dict[str, Callable[[TaskKind, LossOptions], Loss]] = {
    "cross_entropy": _cross_entropy,
    "focal": _focal,
    "ordinal": lambda kind, _: Ordinal(kind.output_size),
    "binary": lambda kind, _: Binary(kind.output_size),
    "cross_entropy_ordinal": lambda kind, options: Both(
        _cross_entropy(kind, options), Ordinal(kind.output_size)
    ),
    "cross_entropy_binary": lambda kind, options: BothAdded(
        _cross_entropy(kind, options), Binary(kind.output_size)
    ),
    "squared_error": lambda kind, _: SquaredError(),
    "cosine": lambda kind, _: CosineSquaredError(),
    "binary_cross_entropy": lambda kind, options: BinaryCrossEntropy(
        kind.output_size, options.label_smoothing
    ),
    "token_cross_entropy": lambda kind, _: TokenCrossEntropy(kind.output_size),
}
"""The losses that `TaskKind.losses` names."""

# Losses whose targets can be smoothed.
SMOOTHED = (
    "cross_entropy",
    "focal",
    "cross_entropy_ordinal",
    "cross_entropy_binary",
    "binary_cross_entropy",
)


def make_loss(task: Task, loss: LossName | LossOptions | None = None) -> Loss:
    """The loss of a task.

    Args:
        task: The task.
        loss: Name or options of the loss; default: the first of the kind's losses.

    Raises:
        UserError: If the loss does not fit the task.
    """
    allowed = task.kind.losses
    options = LossOptions.of(loss)
    name = options.name
    name_or_default = name or allowed[0]
    if name_or_default not in allowed:
        raise UserError(
            f"losses: {name!r} cannot be trained for {task.name!r}, a {task.kind.name} task. "
            f"Choose from: {', '.join(allowed)}"
        )
    if options.label_smoothing and name_or_default not in SMOOTHED:
        raise UserError(
            f"losses: {task.name}: label_smoothing does not apply to {name_or_default!r}; omit it, "
            f"or choose one of {', '.join(each for each in SMOOTHED if each in allowed) or 'none'}"
        )
    if options.class_weights and (task.range or task.tokens or task.choices):
        raise UserError(
            f"losses: {task.name}: class_weights need classes, but it is a {task.kind.name} task; "
            "omit them"
        )
    if isinstance(options.class_weights, dict):
        reject_unknown(
            f"losses: {task.name}: class_weights", "class", options.class_weights, task.classes
        )
    made = LOSSES[name_or_default](task.kind, options)
    if made.compares_texts and not task.pair:
        raise UserError(
            f"losses: {name!r} compares the two texts of a pair, but {task.name!r} has one text; "
            f"choose {allowed[0]!r}, or declare two text columns"
        )
    return made


def class_weights(
    task: Task, options: LossOptions, labels: npt.NDArray[Any]
) -> npt.NDArray[np.float64] | None:
    """The factor of each class's losses, shape (classes,); None if all are 1.

    Args:
        task: The task.
        options: Its options.
        labels: Label array of the training examples.

    Raises:
        UserError: If the weights are balanced and a class has no training example.
    """
    if options.class_weights is None:
        return None
    if isinstance(options.class_weights, dict):
        return np.array([options.class_weights.get(name, 1.0) for name in task.classes])
    counts = task.kind.class_counts(labels[task.kind.is_labelled(labels)])
    assert counts is not None  # `make_loss` has refused tasks without classes
    if not counts.all():
        missing = [name for name, count in zip(task.classes, counts, strict=True) if not count]
        raise UserError(
            f"losses: {task.name}: class_weights: balanced needs training examples of every class, "
            f"but there are none of {', '.join(map(repr, missing))}; give weights by name, or "
            "remove these classes"
        )
    total = int(task.kind.is_labelled(labels).sum())
    if isinstance(task.kind, MultiLabel):
        return np.asarray((total - counts) / counts)
    return np.asarray(total / (len(counts) * counts))
