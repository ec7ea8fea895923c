"""The losses by name, and the loss of a task."""

from collections.abc import Callable

from mtl.errors import UserError, reject_unknown
from mtl.modules.binary_losses import Binary, Ordinal
from mtl.modules.loss_options import LossName, LossOptions
from mtl.modules.losses import (
    Both,
    BothAdded,
    CosineSquaredError,
    CrossEntropy,
    Focal,
    Loss,
    SquaredError,
)
from mtl.modules.multi_label_losses import BinaryCrossEntropy
from mtl.modules.token_losses import TokenCrossEntropy
from mtl.tasks import MultiLabel, Task, TaskKind


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
            f"--model.losses: {name!r} cannot be trained for {task.name!r}, a {task.kind.name} "
            f"task. Choose from: {', '.join(allowed)}"
        )
    if options.label_smoothing and name_or_default not in SMOOTHED:
        raise UserError(
            f"--model.losses: {task.name}: label_smoothing does not apply to {name_or_default!r}; "
            "omit it, or choose one of "
            f"{', '.join(each for each in SMOOTHED if each in allowed) or 'none'}"
        )
    if options.class_weights and (task.range or task.tokens or task.choices):
        raise UserError(
            f"--model.losses: {task.name}: class_weights need classes, but it is a "
            f"{task.kind.name} task; omit them"
        )
    if isinstance(options.class_weights, dict):
        reject_unknown(
            f"--model.losses: {task.name}: class_weights",
            "class",
            options.class_weights,
            task.classes,
        )
    made = LOSSES[name_or_default](task.kind, options)
    if made.compares_texts and not task.pair:
        raise UserError(
            f"--model.losses: {name!r} compares the two texts of a pair, but {task.name!r} has "
            f"one text; choose {allowed[0]!r}, or declare two text columns"
        )
    return made
