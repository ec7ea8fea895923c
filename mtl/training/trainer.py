"""Runs in Python: a Trainer that writes the same run folder as the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import CheckpointIO

from mtl.callbacks import (
    BestCheckpoint,
    CheckMonitors,
    MetricsRecorder,
    PeriodicCheckpoint,
    PredictionReport,
    SameData,
    SaveLastCheckpoint,
    TensorBoardLayout,
    ThroughputMonitor,
    WritePredictions,
)
from mtl.training.checkpoint_io import AtomicCheckpointIO
from mtl.training.run_folder import CHECKPOINTS, check_fresh_folder
from mtl.training.trainer_checks import EPOCHS, check_trainer_options, has_default_length

DEFAULTS: dict[str, Any] = {
    # The method prints the number of its parameters.
    "enable_model_summary": False,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    # An order of a sampling scheme already assigns each process its own examples; Lightning's
    # sampler would split them again.
    "use_distributed_sampler": False,
}
# The heads of tasks that are not in a step get no gradient; DDP must be configured to accept that.
DDP = "ddp_find_unused_parameters_true"


def trainer(out: str | Path, **options: Any) -> Trainer:
    """Returns a Lightning Trainer with the defaults of the command line.

    `mtl.load` and `mtl test` can read the run's folder. It gets no `config.yaml`, so an
    interrupted run is resumed in Python, with `fit(..., ckpt_path=OUT/checkpoints/last.ckpt)`.

    Args:
        out: The run's folder.
        options: Arguments of the Trainer, such as `max_epochs`; `callbacks` are added to those that
            write the folder.

    Raises:
        UserError: If the folder holds a finished or an interrupted run, or nothing would be
            trained with the options.
    """
    folder = Path(out)
    check_fresh_folder(folder)
    check_trainer_options(options, training=True)
    callbacks = [*as_list(options.pop("callbacks", None)), *result_callbacks(folder)]
    callbacks += [LearningRateMonitor("step")] if options.get("logger", True) else []
    if has_default_length(options):
        options["max_epochs"] = EPOCHS
    options["plugins"] = add_checkpoint_io(options.get("plugins"))
    options = DEFAULTS | {"default_root_dir": folder} | options
    options["logger"] = with_run_logger(options.get("logger"), folder)

    def create(**strategy: str) -> Trainer:
        return Trainer(**options | strategy, callbacks=[*callbacks, *checkpoint_callbacks(folder)])

    return with_strategy_for_devices(create, options.get("strategy", "auto"))


def with_strategy_for_devices(create: Callable[..., Trainer], strategy: Any) -> Trainer:
    """Creates a Trainer, with the strategy `DDP` if it needs one and none is chosen.

    It needs one if it trains in several processes.

    Args:
        create: Creates a Trainer, and accepts the argument `strategy`.
        strategy: The strategy that the user chose, or `auto`.
    """
    created = create()
    return create(strategy=DDP) if created.world_size > 1 and strategy == "auto" else created


def run_logger(out: Path) -> TensorBoardLogger:
    """Returns a logger that writes TensorBoard events to the run's folder, not to a subfolder."""
    return TensorBoardLogger(out, name="", version="", default_hp_metric=False)


def with_run_logger(logger: Any, out: Path) -> Any:
    """Returns the loggers of a run: that of `run_logger`, unless one logger or False is chosen.

    Args:
        logger: The Trainer's option; a list adds to the default.
        out: The run's folder.
    """
    if logger in (None, True):
        return run_logger(out)
    if isinstance(logger, list) and not any(isinstance(one, TensorBoardLogger) for one in logger):
        return [run_logger(out), *logger]
    return logger


def result_callbacks(out: Path) -> list[Callback]:
    """Returns the callbacks that write scores and predictions, and log them."""
    results = [WritePredictions(out), MetricsRecorder(out)]
    checks = [CheckMonitors(), SameData()]
    return [*checks, ThroughputMonitor(), *results, TensorBoardLayout(), PredictionReport()]


def checkpoint_callbacks(out: Path, save_every: int = 200) -> list[Callback]:
    """Returns the callbacks that write checkpoints to a run's folder.

    They must come after all other callbacks, because a checkpoint holds the state of those.

    Args:
        out: The run's folder.
        save_every: Number of optimizer steps between two saves of the last checkpoint.
    """
    folder = out / CHECKPOINTS
    # The last one after the best one, so that the state it saves holds the best score so far.
    return [
        BestCheckpoint(folder),
        PeriodicCheckpoint(folder, save_every),
        SaveLastCheckpoint(folder),
    ]


def add_checkpoint_io(plugins: Any) -> list[Any]:
    """Returns the plugins of a Trainer, with one that writes checkpoints atomically.

    Args:
        plugins: The plugins that the user chose: a list, one plugin, or None.
    """
    chosen = as_list(plugins)
    writes = any(isinstance(plugin, CheckpointIO) for plugin in chosen)
    return chosen if writes else [*chosen, AtomicCheckpointIO()]


def as_list(value: Any) -> list[Any]:
    """Returns a list as it is, an empty list for None, else a list of the one value."""
    return [] if value is None else value if isinstance(value, list) else [value]
