"""`--trainer.precision fast`: the fastest precision that is safe on this machine."""

from typing import Any, Literal

from lightning.fabric.plugins.precision.precision import _PRECISION_INPUT
from lightning.pytorch import Trainer

from mtl.bounds import Bounds
from mtl.errors import UserError
from mtl.system.hardware import fast_precision

FAST = "fast"
# Numbers that Lightning accepts, and then divides by, or that invert the gradient.
BOUNDS = {
    "accumulate_grad_batches": Bounds(1),
    "check_val_every_n_epoch": Bounds(1),
    "gradient_clip_val": Bounds(0),
    "val_check_interval": Bounds(0, low_open=True),
}


class FastTrainer(Trainer):
    """Lightning's Trainer, whose precision may be `fast`.

    Args:
        precision: Precision of the computation, such as `32-true` or `bf16-mixed`. `fast`:
            bf16-mixed if the hardware computes in bf16, else 32-true.

    Raises:
        UserError: If a number is out of bounds that Lightning itself does not check.
    """

    def __init__(
        self, precision: _PRECISION_INPUT | Literal["fast"] | None = None, **kwargs: Any
    ) -> None:
        for name, bounds in BOUNDS.items():
            value = kwargs.get(name)
            if isinstance(value, int | float) and value not in bounds:
                raise UserError(f"--trainer.{name} {value}: give {bounds!r}")
        resolved: Any = fast_precision() if precision == FAST else precision
        super().__init__(precision=resolved, **kwargs)


def resolve_precision(trainer: Any) -> None:
    """Replaces `fast` in a parsed configuration, so that it names what the run computes with.

    Args:
        trainer: The options of the Trainer.
    """
    if trainer.precision == FAST:
        trainer.precision = fast_precision()
