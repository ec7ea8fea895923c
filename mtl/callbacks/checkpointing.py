"""The last weights of a run."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer


class SaveLastCheckpoint(Callback):
    """Writes the last checkpoint when training has ended; in between, every so many steps, `ModelCheckpoint` does.

    Args:
        path: The checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes it; all processes take part."""
        if not trainer.interrupted:
            trainer.save_checkpoint(self.path, weights_only=False)  # with the state to go on from
