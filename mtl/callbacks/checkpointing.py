"""Saves the best checkpoint, and the last one at the end of training."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from mtl.training.run_folder import BEST, LAST, PREVIOUS


class RunCheckpoint(ModelCheckpoint):
    """Saves one checkpoint, always under the same name in the run's folder.

    Lightning forgets the best score if a run's folder was copied or moved, and would then replace
    the best checkpoint by the next one.

    Args:
        path: Path of the checkpoint.
        options: Arguments of `ModelCheckpoint`.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(path.parent, filename=path.stem, enable_version_counter=False, **options)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best score, of the checkpoint in this folder."""
        path = str(Path(str(self.dirpath)) / f"{self.filename}.ckpt")
        names = ("best_model_path", "kth_best_model_path", "last_model_path")
        here: dict[str, Any] = {name: path if state_dict[name] else "" for name in names}
        models = {path: score for score in state_dict["best_k_models"].values()}  # noqa: B035
        here |= {"dirpath": self.dirpath, "best_k_models": models}
        super().load_state_dict(state_dict | here)


class BestCheckpoint(RunCheckpoint):
    """Saves the weights with the highest score; training is not resumed from them.

    Args:
        folder: Folder of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder / BEST,
            monitor="score/mean",
            mode="max",
            save_weights_only=True,
            save_on_train_epoch_end=False,  # else a run without validations is warned
        )


class SaveLastCheckpoint(Callback):
    """Saves the last checkpoint when training ends. During training, `PeriodicCheckpoint` saves it.

    Args:
        folder: Folder of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the checkpoint. Every process must call it."""
        # With the optimizer's state, so that training can be resumed.
        trainer.save_checkpoint(self.folder / LAST, weights_only=False)
        if trainer.is_global_zero:
            (self.folder / PREVIOUS).unlink(missing_ok=True)
