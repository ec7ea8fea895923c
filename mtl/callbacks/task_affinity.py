"""Measures during training how a step on one task's gradient changes the losses of the others."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mtl.balancing.lookahead import lookahead_affinity
from mtl.balancing.shared_parameters import shared_parameters
from mtl.batch import Batch
from mtl.bounds import Count
from mtl.callbacks.typed_trainer import is_dry_run, method_of
from mtl.errors import UserError
from mtl.grouping.run_files import AFFINITY, FOLDER, affinity_text
from mtl.methods.base import MultiTaskModule
from mtl.methods.task_model import mean_loss
from mtl.modules.eval_mode import eval_mode
from mtl.modules.task_context import task_context
from mtl.training.run_folder import write_atomic


class TaskAffinity(Callback):
    """Inter-task affinity of each pair of tasks, the mean over training (Fifty et al. 2021).

    The affinity of task i onto task j is the relative reduction of j's loss by a step along the
    gradient of i for the shared parameters, with the current learning rate, on the batch that is
    trained next. Losses are computed without dropout and without mixed precision. A measurement
    takes as many backward passes as tasks, and as many forward passes and one more. The training is
    the same as without it.

    TensorBoard gets each measurement, `affinity/I-J`; the run's folder the means, for `mtl group`.

    Args:
        every_n_steps: Number of batches from one measurement to the next.
    """

    def __init__(self, every_n_steps: Count = 10) -> None:
        self.every_n_steps = every_n_steps
        # The sum of the measurements of each pair of tasks, and their number.
        self._totals: dict[tuple[str, str], tuple[float, int]] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses several processes.

        Raises:
            UserError: If there are several, or no shared parameters.
        """
        if trainer.world_size > 1:
            raise UserError("TaskAffinity works in one process; give --trainer.devices 1")
        shared_parameters(pl_module)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Measures before the step."""
        if batch_idx % self.every_n_steps or len(batch.segments) < 2:
            return
        method, shared = method_of(pl_module), shared_parameters(pl_module)
        by_parameter = {
            id(parameter): float(group["lr"])
            for optimizer in trainer.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        rates = {name: by_parameter.get(id(each), 0.0) for name, each in shared.items()}
        if not any(rates.values()):  # the first step of a warm-up
            return
        with eval_mode(method):
            measured = lookahead_affinity(lambda: batch_losses(method, batch), shared, rates)
        for pair, value in measured.items():
            total, count = self._totals.get(pair, (0.0, 0))
            self._totals[pair] = total + value, count + 1
        named = {f"affinity/{one}-{other}": value for (one, other), value in measured.items()}
        for logger in trainer.loggers:
            logger.log_metrics(named, step=trainer.global_step)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the means."""
        if self._totals and trainer.is_global_zero and not is_dry_run(trainer):
            means = {pair: total / count for pair, (total, count) in self._totals.items()}
            steps = max(count for _, count in self._totals.values())
            folder = Path(trainer.default_root_dir) / FOLDER
            write_atomic(folder / AFFINITY, affinity_text(means, steps))

    def state_dict(self) -> dict[str, Any]:
        """The measurements so far."""
        return {"totals": [[*pair, *total] for pair, total in self._totals.items()]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the measurements."""
        self._totals = {(one, other): (value, n) for one, other, value, n in state_dict["totals"]}


def batch_losses(method: MultiTaskModule, batch: Batch) -> dict[str, Tensor]:
    """The mean loss of each task in a batch, without regularizer."""
    with task_context(batch.segments, slice(0, len(batch.task_ids))):
        logits = method.training_logits(batch)
    return {
        segment.task: mean_loss(segment, method.example_losses(segment, logits[segment.task]))
        for segment in batch.segments
    }
