"""The callbacks that the command line adds to a Trainer."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, RichProgressBar
from lightning.pytorch.cli import SaveConfigCallback

from mtl.balancing import Balancer
from mtl.callbacks import GradientConflicts
from mtl.training.trainer import as_list, checkpoint_callbacks, result_callbacks


class SaveConfig(SaveConfigCallback):
    """Saves the resolved configuration in the run's folder; only `mtl fit` does so."""

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Saves the configuration if the command is `fit`."""
        if stage == "fit":
            super().setup(trainer, pl_module, stage)


def add_callbacks(
    config: Any, training: bool, out: Path, save_every: int, balancer: Balancer
) -> None:
    """Adds the callbacks of a command to those that are configured.

    Args:
        config: The options of the Trainer; its `callbacks` are replaced.
        training: Whether the command is `fit`.
        out: The run's folder.
        save_every: Number of optimizer steps between two saves of the last checkpoint.
        balancer: The method's balancer.
    """
    config.callbacks = as_list(config.callbacks)
    conflicts = any(isinstance(callback, GradientConflicts) for callback in config.callbacks)
    if config.enable_progress_bar is not False:
        config.callbacks.append(RichProgressBar(leave=False))
    if config.fast_dev_run:
        return
    config.callbacks += result_callbacks(out)
    if not training:
        return
    if config.logger:
        config.callbacks.append(LearningRateMonitor("step"))
    # What a balancer measures anyway costs next to nothing to record.
    if balancer.measures_gradients and not conflicts:
        config.callbacks.append(GradientConflicts(config.log_every_n_steps))
    config.callbacks += checkpoint_callbacks(out, save_every)
