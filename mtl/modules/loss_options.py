"""The options of a task's loss, and the weights of its classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from mtl.bounds import NonNegative, ShareBelowOne, check_bounds
from mtl.errors import UserError
from mtl.tasks import MultiLabel, Task

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
        check_bounds(type(self), vars(self), "--model.losses: ")

    @classmethod
    def of(cls, value: "LossName | LossOptions | Mapping[str, Any] | None") -> "LossOptions":
        """Options from a name, or from a mapping of the fields as a checkpoint holds it."""
        if isinstance(value, cls):
            return value
        return cls(**value) if isinstance(value, Mapping) else cls(cast("LossName | None", value))


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
            f"--model.losses: {task.name}: class_weights: balanced needs training examples of "
            f"every class, but there are none of {', '.join(map(repr, missing))}; give weights by "
            "name, or remove these classes"
        )
    total = int(task.kind.is_labelled(labels).sum())
    if isinstance(task.kind, MultiLabel):
        return np.asarray((total - counts) / counts)
    return np.asarray(total / (len(counts) * counts))
