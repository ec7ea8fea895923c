"""Checkpoints every so many steps, from which a run can resume."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from mtl.callbacks.checkpointing import RunCheckpoint
from mtl.callbacks.typed_trainer import accumulating, validation_follows
from mtl.training.run_folder import LAST


class PeriodicCheckpoint(RunCheckpoint):
    """Writes a checkpoint every so many steps; after the validation, if one follows the step.

    Lightning skips that validation when it resumes from a checkpoint written before it, so the
    resumed run would not know its scores. Within a window of gradient accumulation no checkpoint is
    written, because it would not contain the gradients.

    Args:
        folder: Folder of the checkpoints.
        every: Number of optimizer steps between two checkpoints.
    """

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(folder / LAST, every_n_train_steps=every)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Writes the checkpoint, unless a validation follows."""
        if not accumulating(trainer) and not validation_follows(trainer):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the checkpoint of the last step, if it is due; Lightning checks whether it is."""
        if not accumulating(trainer):
            super().on_train_batch_end(trainer, pl_module, None, None, 0)
