"""The optimizer: parameter groups, and the learning-rate schedule."""

import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mtl.errors import UserError

Schedule = Literal["linear", "constant"]
"""The learning rate after warm-up: linear decay to 0 at the last step, or constant."""


class Optimization(NamedTuple):
    """Settings of the optimizer and its schedule.

    Attributes:
        lr: Peak learning rate.
        weight_decay: Decoupled weight decay of matrices.
        warmup: Fraction of the optimizer steps with linear warm-up from 0.
        schedule: The learning rate after warm-up.
        optimizer: Class of the optimizer.
        arguments: Its other arguments; default: `{fused: true}` for AdamW.
    """

    lr: float
    weight_decay: float
    warmup: float
    schedule: Schedule
    optimizer: type[Optimizer]
    arguments: dict[str, Any] | None

    def configure(self, module: nn.Module, steps: float) -> dict[str, Any]:
        """Optimizer and schedule in the format of `LightningModule.configure_optimizers`.

        Args:
            module: The module to train.
            steps: Number of optimizer steps of the run; infinite if only a time ends it.

        Raises:
            UserError: If the schedule depends on the number of steps, and that is infinite.
        """
        if math.isinf(steps):
            if self.schedule != "constant" or self.warmup:
                raise UserError(
                    "the schedule of the learning rate depends on the number of steps: give "
                    "--trainer.max_epochs or --trainer.max_steps, or choose --model.schedule "
                    "constant and --model.warmup 0"
                )
            steps = 0
        arguments = self.arguments or {}
        if self.arguments is None and self.optimizer is AdamW:
            arguments = {"fused": True}
        groups = parameter_groups(module, self.lr, self.weight_decay)
        optimizer: Any = self.optimizer(groups, **arguments)
        # Fused optimizers declare that they unscale gradients themselves, and Lightning then
        # refuses to clip under AMP. Without the declaration gradients are unscaled first, then
        # clipped, as for an optimizer that is not fused.
        optimizer._step_supports_amp_scaling = False
        scheduler = learning_rate_schedule(
            self.schedule, optimizer, round(self.warmup * steps), int(steps)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def parameter_groups(module: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices, and vectors (biases, norms) without decay."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups: Iterable[tuple[list[nn.Parameter], float]] = (
        ([parameter for parameter in trainable if parameter.ndim > 1], weight_decay),
        ([parameter for parameter in trainable if parameter.ndim <= 1], 0.0),
    )
    return [
        {"params": params, "lr": lr, "weight_decay": decay} for params, decay in groups if params
    ]


class StepSchedule(LambdaLR):
    """A schedule of the optimizer's own groups; a callback that adds a group sets its rate."""

    def get_lr(self) -> list[Any]:
        """The learning rates of all groups."""
        added = self.optimizer.param_groups[len(self.base_lrs) :]
        return [*super().get_lr(), *(group["lr"] for group in added)]


def learning_rate_schedule(
    schedule: Schedule, optimizer: Optimizer, warmup: int, steps: int
) -> LambdaLR:
    """Linear warm-up from 0 in `warmup` steps; then linear decay to 0 at `steps`, or constant.

    Source: Devlin et al. 2019, appendix A.2 (linear); the schedule of MT-BERT's code (constant).
    """

    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        return max(0.0, (steps - step) / max(1, steps - warmup)) if schedule == "linear" else 1.0

    return StepSchedule(optimizer, factor)
