"""The progress bar of a run."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Lightning's bar, removed from the screen before results are printed.

    It must come before the callbacks that print them; Lightning would draw it again below.
    """

    def __init__(self) -> None:
        super().__init__(leave=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes the bar."""
        self._remove()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes the bar of `mtl validate`."""
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn != "fit":
            self._remove()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes the bar."""
        super().on_test_end(trainer, pl_module)
        self._remove()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes the bar."""
        super().on_predict_end(trainer, pl_module)
        self._remove()

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The values next to the bar, without the version of the logger."""
        return {
            name: value
            for name, value in super().get_metrics(trainer, pl_module).items()
            if name != "v_num"
        }

    def _remove(self) -> None:
        progress: Any = self.progress
        if progress is not None:
            progress.live.transient = True
        self._stop_progress()
