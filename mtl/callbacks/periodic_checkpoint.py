"""Checkpoints every so many steps, from which a run can resume."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class PeriodicCheckpoint(ModelCheckpoint):
    """Writes a checkpoint every so many steps; after the validation, if one follows the step.

    Lightning skips that validation when it resumes from a checkpoint written before it, so the
    resumed run would not know its scores. Use `every_n_train_steps`, and no monitor.
    """

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Writes the checkpoint, unless a validation follows."""
        loop = trainer.fit_loop
        if loop._data_fetcher and loop.epoch_loop._should_check_val_fx(loop._data_fetcher):
            return
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the checkpoint of the last step, if it is due; Lightning checks whether it is."""
        super().on_train_batch_end(trainer, pl_module, None, None, 0)
