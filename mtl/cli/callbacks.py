"""The callbacks that the command line adds to a Trainer."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, RichProgressBar
from lightning.pytorch.cli import SaveConfigCallback

from mtl.balancing import Balancer, Surgery
from mtl.callbacks import GradientConflicts
from mtl.training.trainer import checkpoint_callbacks, result_callbacks


class SaveConfig(SaveConfigCallback):
    """Saves the resolved configuration in the run's folder; only `mtl fit` does so."""

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Saves the configuration if the command is `fit`."""
        if stage == "fit":
            super().setup(trainer, pl_module, stage)


def evaluation_callbacks(config: Any, out: Path) -> list[Callback]:
    """Returns the callbacks of every command: the progress bar, and those that write results.

    Args:
        config: The options of the Trainer.
        out: The run's folder.
    """
    callbacks: list[Callback] = []
    if config.enable_progress_bar is not False:
        callbacks.append(RichProgressBar(leave=False))
    return callbacks if config.fast_dev_run else [*callbacks, *result_callbacks(out)]


def training_callbacks(
    config: Any, out: Path, save_every: int, balancer: Balancer
) -> list[Callback]:
    """Returns the callbacks of `mtl fit`; those that write checkpoints come last.

    Gradient conflicts are recorded if the balancer is a `Surgery`: it has the tasks' gradients
    already, so the record costs next to nothing.

    Args:
        config: The options of the Trainer; `callbacks` is a list.
        out: The run's folder.
        save_every: Number of optimizer steps between two saves of the last checkpoint.
        balancer: The method's balancer.
    """
    callbacks = evaluation_callbacks(config, out)
    if config.fast_dev_run:
        return callbacks
    if config.logger:
        callbacks.append(LearningRateMonitor("step"))
    configured = any(isinstance(callback, GradientConflicts) for callback in config.callbacks)
    if isinstance(balancer, Surgery) and not configured:
        callbacks.append(GradientConflicts(config.log_every_n_steps))
    return [*callbacks, *checkpoint_callbacks(out, save_every)]
