"""The callbacks that the command line adds to a Trainer."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from mtl.balancing import Balancer
from mtl.callbacks import GradientConflicts
from mtl.callbacks.progress_bar import ProgressBar
from mtl.training.run_folder import CONFIG, write_atomic
from mtl.training.trainer import as_list, checkpoint_callbacks, result_callbacks


class SaveConfig(SaveConfigCallback):
    """Saves the resolved configuration in the run's folder; only `mtl fit` does so.

    Args:
        parser: The parser of the command.
        config: The resolved configuration.
        out: The run's folder; Lightning would choose the folder of the logger.
    """

    def __init__(self, parser: LightningArgumentParser, config: Any, out: Path) -> None:
        super().__init__(parser, config, save_to_log_dir=False)
        self.out = out

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Writes nothing yet: the command may still be refused."""

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Writes the file, now that everything is set up and checked."""
        if trainer.is_global_zero:
            self.save_config(trainer, pl_module, "fit")
            self.already_saved = True

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Writes the file of a run without training steps."""
        if trainer.is_global_zero and not self.already_saved:
            self.save_config(trainer, pl_module, "fit")

    def save_config(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Writes the file."""
        write_atomic(self.out / CONFIG, self.parser.dump(self.config, skip_none=False))


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
        config.callbacks.append(ProgressBar())
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
