"""Schedules of the learning rate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mtl.bounds import Positive, check_bounds

ScheduleName = Literal["linear", "constant", "cosine", "inverse_sqrt", "polynomial"]
# Steps after which `inverse_sqrt` without warm-up begins to fall notably, as in transformers.
TIMESCALE = 10_000


@dataclass(frozen=True)
class Schedule:
    """The learning rate after warm-up.

    At the share t of the steps that remain after warm-up its factor is 1 - t (`linear`), 1
    (`constant`), (1 + cos(pi t)) / 2 (`cosine`) or (1 - t) ** power (`polynomial`). That of
    `inverse_sqrt` is sqrt(W / step), for W steps of warm-up.

    Source: `linear`: Devlin et al. 2019, appendix A.2. `constant`: the code of MT-BERT. `cosine`:
    Loshchilov and Hutter 2017, without restarts. `inverse_sqrt`: Vaswani et al. 2017, section 5.3.

    Args:
        name: Name of the schedule.
        power: Exponent of `polynomial`.

    Raises:
        UserError: If a number is out of bounds.
    """

    name: ScheduleName = "linear"
    power: Positive = 1.0

    def __post_init__(self) -> None:
        check_bounds(type(self), vars(self), "schedule: ")

    @classmethod
    def of(cls, value: "ScheduleName | Schedule | Mapping[str, Any]") -> "Schedule":
        """A schedule from its name, or from a mapping of the fields as a checkpoint holds it."""
        if isinstance(value, cls):
            return value
        return cls(**value) if isinstance(value, Mapping) else cls(cast("ScheduleName", value))

    @property
    def needs_steps(self) -> bool:
        """Whether it depends on the number of steps of the run."""
        return self.name not in ("constant", "inverse_sqrt")

    def factor(self, step: int, warmup: int, steps: int) -> float:
        """Factor of the peak learning rate at a step, counted from 0."""
        if step < warmup:
            return step / warmup
        if self.name == "inverse_sqrt":
            scale = warmup or TIMESCALE
            return math.sqrt(scale / (step + scale - warmup))
        rest = max(0.0, (steps - step) / max(1, steps - warmup))
        return {
            "linear": rest,
            "constant": 1.0,
            "cosine": (1 - math.cos(math.pi * rest)) / 2,
            "polynomial": rest**self.power,
        }[self.name]


class StepSchedule(LambdaLR):
    """A schedule of the optimizer's own groups; a callback that adds a group sets its rate."""

    def get_lr(self) -> list[Any]:
        """The learning rates of all groups."""
        added = self.optimizer.param_groups[len(self.base_lrs) :]
        return [*super().get_lr(), *(group["lr"] for group in added)]


def learning_rate_schedule(
    schedule: Schedule, optimizer: Optimizer, warmup: int, steps: int
) -> LambdaLR:
    """Linear warm-up from 0 in `warmup` steps, then the schedule until `steps`.

    A group of parameters with `frozen_steps` has learning rate 0 before that step.
    """

    def factor_after(frozen_steps: int) -> Any:
        return lambda step: 0.0 if step < frozen_steps else schedule.factor(step, warmup, steps)

    first_steps = [group.get("frozen_steps", 0) for group in optimizer.param_groups]
    return StepSchedule(optimizer, [factor_after(each) for each in first_steps])
