"""`--trainer.precision fast`: the fastest precision that is safe on this machine."""

from typing import Any, Literal

from lightning.fabric.plugins.precision.precision import _PRECISION_INPUT
from lightning.pytorch import Trainer

from mtl.system.hardware import fast_precision, runs_on_processor
from mtl.training.trainer_checks import check_devices, check_trainer_options

FAST = "fast"


class FastTrainer(Trainer):
    """Lightning's Trainer, whose precision may be `fast`.

    Args:
        precision: Precision of the computation, such as `32-true` or `bf16-mixed`. `fast`:
            bf16-mixed if the hardware computes in bf16, else 32-true.

    Raises:
        UserError: If the options cannot be used, or the processor has fewer cores than `devices`.
    """

    def __init__(
        self, precision: _PRECISION_INPUT | Literal["fast"] | None = None, **kwargs: Any
    ) -> None:
        check_trainer_options(kwargs, training=False)
        if runs_on_processor(kwargs.get("accelerator", "auto")):
            check_devices(kwargs.get("devices", "auto"))
        resolved: Any = fast_precision() if precision == FAST else precision
        super().__init__(precision=resolved, **kwargs)


def resolve_precision(trainer: Any) -> None:
    """Replaces `fast` in a parsed configuration, so that it names what the run computes with.

    Args:
        trainer: The options of the Trainer.
    """
    if trainer.precision == FAST:
        trainer.precision = fast_precision()
