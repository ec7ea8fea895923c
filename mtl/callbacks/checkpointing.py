"""Saves the checkpoint at the end of training."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer


class SaveLastCheckpoint(Callback):
    """Saves the last checkpoint when training ends. During training, `ModelCheckpoint` saves it.

    Args:
        path: Path of the checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the checkpoint. Every process must call it."""
        if not trainer.interrupted:
            # With the optimizer's state, so that training can be resumed.
            trainer.save_checkpoint(self.path, weights_only=False)
