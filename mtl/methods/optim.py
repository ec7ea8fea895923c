"""The optimizer and the schedule of its learning rate."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn
from torch.optim import AdamW, Optimizer

from mtl.errors import UserError
from mtl.methods.parameter_groups import GroupOptions, parameter_groups
from mtl.methods.schedules import Schedule, learning_rate_schedule


class Optimization(NamedTuple):
    """Settings of the optimizer and its schedule.

    Attributes:
        lr: Peak learning rate.
        weight_decay: Decoupled weight decay of matrices.
        warmup: Fraction of the optimizer steps with linear warm-up from 0.
        schedule: The learning rate after warm-up.
        optimizer: Class of the optimizer.
        arguments: Its other arguments; default: `{fused: true}` for AdamW.
        warmup_steps: Number of steps with warm-up, instead of `warmup`.
        layer_decay: Factor of the learning rate per layer, as in `parameter_groups`.
        groups: Options of parameters by pattern, as in `parameter_groups`.
    """

    lr: float
    weight_decay: float
    warmup: float
    schedule: Schedule
    optimizer: type[Optimizer]
    arguments: dict[str, Any] | None
    warmup_steps: int | None = None
    layer_decay: float = 1.0
    groups: Mapping[str, GroupOptions] | None = None

    def configure(self, module: nn.Module, steps: float) -> dict[str, Any]:
        """Optimizer and schedule in the format of `LightningModule.configure_optimizers`.

        Args:
            module: The module to train.
            steps: Number of optimizer steps of the run; infinite if only a time ends it.

        Raises:
            UserError: If the schedule depends on the number of steps, and that is infinite; or if
                `groups` or `layer_decay` does not fit the module.
        """
        if math.isinf(steps):
            if self.schedule.needs_steps or (self.warmup and self.warmup_steps is None):
                raise UserError(
                    "the schedule of the learning rate depends on the number of steps: give "
                    "--trainer.max_epochs or --trainer.max_steps, or choose --model.schedule "
                    "constant and --model.warmup 0"
                )
            steps = 0
        arguments = self.arguments or {}
        if self.arguments is None and self.optimizer is AdamW:
            arguments = {"fused": True}
        groups = parameter_groups(module, self.lr, self.weight_decay, self.layer_decay, self.groups)
        optimizer: Any = self.optimizer(groups, **arguments)
        # Fused optimizers declare that they unscale gradients themselves, and Lightning then
        # refuses to clip under AMP. Without the declaration gradients are unscaled first, then
        # clipped, as for an optimizer that is not fused.
        optimizer._step_supports_amp_scaling = False
        warmup = round(self.warmup * steps) if self.warmup_steps is None else self.warmup_steps
        scheduler = learning_rate_schedule(self.schedule, optimizer, warmup, int(steps))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
