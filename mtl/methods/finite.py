"""Stops a training at the first loss or gradient that is not finite."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, distributed, nn

from mtl.errors import UserError
from mtl.training.distributed import several_processes, sum_over_processes, world_size

# A gradient scaler (fp16) skips steps whose gradients overflow, and halves its scale from 65536.
# Below this value it did so 26 times more than it found that the scale can grow.
LOWEST_SCALE = 2.0**-10


class FiniteCheck:
    """Checks losses and gradients. Reading them would make the CPU wait for a GPU.

    On a GPU they are therefore read only every `log_every_n_steps` steps, before a validation, and
    before a checkpoint is saved; on a CPU in every step, before the update.
    """

    def __init__(self) -> None:
        self._unread: list[tuple[int, str, Tensor]] = []

    def add_losses(self, step: int, losses: Mapping[str, Tensor]) -> None:
        """Adds the losses of a batch, by task."""
        self._unread += [
            (step, f"the loss of task {task!r}", loss.detach()) for task, loss in losses.items()
        ]

    def add_gradients(self, module: LightningModule) -> None:
        """Adds the norm of the gradients, before they are clipped, and checks if it is time to."""
        trainer: Any = module.trainer
        step = trainer.global_step + 1
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        if gradients and _scaler(module) is None:
            norm = nn.utils.get_total_norm(gradients)
            self._unread.append((step, "the norm of the gradients", norm))
        if module.device.type == "cpu" or step % trainer.log_every_n_steps == 0:
            self.check(module)

    def check(self, module: LightningModule) -> None:
        """Checks what was added. Every process must call it.

        Raises:
            UserError: If a value is not finite; it names the first one.
        """
        unread, self._unread = self._unread, []
        values = torch.stack([value.float() for *_, value in unread]).tolist() if unread else []
        bad = next(
            (
                f"step {step}: {name} is {value}"
                for (step, name, _), value in zip(unread, values, strict=True)
                if not abs(value) < float("inf")
            ),
            None,
        )
        scaler = _scaler(module)
        if bad is None and scaler is not None and scaler.get_scale() < LOWEST_SCALE:
            step = module.trainer.global_step
            bad = f"step {step}: the gradients overflow in fp16 again and again"
        _raise_in_all_processes(module, bad)


def check_finite_weights(module: LightningModule) -> None:
    """Checks the trained weights before a checkpoint is saved. Every process must call it.

    Raises:
        UserError: If one is not finite.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    flags = [parameter.isfinite().all() for _, parameter in named]
    finite = torch.stack(flags).tolist() if flags else []
    bad = next((name for (name, _), each in zip(named, finite, strict=True) if not each), None)
    step = module.trainer.global_step
    _raise_in_all_processes(module, bad and f"step {step}: the weights of {bad} are not finite")


def _raise_in_all_processes(module: LightningModule, bad: str | None) -> None:
    found: Iterable[str | None] = [bad]
    if several_processes():
        count = sum_over_processes(torch.tensor(float(bad is not None), device=module.device))
        if not count:
            return
        found = [None] * world_size()
        distributed.all_gather_object(found, bad)
    if first := next(filter(None, found), None):
        raise UserError(f"{first}. Training stops, and this state is not saved. {_remedy(module)}")


def _remedy(module: LightningModule) -> str:
    settings: Any = module
    lr, warmup = settings.optimization.lr, settings.optimization.warmup
    fp16 = ", or use --trainer.precision bf16-mixed" * module.trainer.precision.startswith("16")
    return (
        f"Lower --model.lr ({lr:g}), raise --model.warmup ({warmup:g}){fp16}; "
        "--trainer.detect_anomaly true names the operation that fails"
    )


def _scaler(module: LightningModule) -> torch.amp.GradScaler | None:
    precision = module.trainer.precision_plugin
    return precision.scaler if isinstance(precision, MixedPrecision) else None
