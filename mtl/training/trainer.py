"""Runs in Python: a Trainer that writes the same run folder as the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from mtl.callbacks import (
    MetricsRecorder,
    PeriodicCheckpoint,
    SaveLastCheckpoint,
    TensorBoardReport,
    ThroughputMonitor,
    WritePredictions,
)
from mtl.training.run_folder import CHECKPOINTS, check_fresh_folder

DEFAULTS: dict[str, Any] = {
    "max_epochs": 3,
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

    `mtl.load` and `mtl test` can read the run's folder.     It gets no `config.yaml`, so an
    interrupted run is resumed in Python, with `fit(..., ckpt_path=OUT/checkpoints/last.ckpt)`.

    Args:
        out: The run's folder.
        options: Arguments of the Trainer, such as `max_epochs`; `callbacks` are added to those that
            write the folder.

    Raises:
        UserError: If the folder holds a finished or an interrupted run.
    """
    folder = Path(out)
    check_fresh_folder(folder)
    callbacks = [*as_list(options.pop("callbacks", None)), *result_callbacks(folder)]
    callbacks += [LearningRateMonitor("step")] if options.get("logger", True) else []
    options = DEFAULTS | {"logger": run_logger(folder), "default_root_dir": folder} | options

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


def result_callbacks(out: Path) -> list[Callback]:
    """Returns the callbacks that write scores and predictions, and show them in TensorBoard."""
    return [ThroughputMonitor(), WritePredictions(out), MetricsRecorder(out), TensorBoardReport()]


def checkpoint_callbacks(out: Path, save_every: int = 200) -> list[Callback]:
    """Returns the callbacks that write checkpoints to a run's folder.

    They must come after all other callbacks, because a checkpoint holds the state of those.

    Args:
        out: The run's folder.
        save_every: Number of optimizer steps between two saves of the last checkpoint.
    """
    common: dict[str, Any] = {
        "dirpath": out / CHECKPOINTS,
        "enable_version_counter": False,
        "save_top_k": 1,
    }
    return [
        # Training is never resumed from the best checkpoint, so it needs no optimizer state.
        ModelCheckpoint(
            filename="best", monitor="score/mean", mode="max", save_weights_only=True, **common
        ),
        # After the best one, so that the state it saves holds the best score so far.
        PeriodicCheckpoint(filename="last", every_n_train_steps=save_every, **common),
        SaveLastCheckpoint(out / CHECKPOINTS / "last.ckpt"),
    ]


def as_list(value: Any) -> list[Any]:
    """Returns a list as it is, an empty list for None, else a list of the one value."""
    return [] if value is None else value if isinstance(value, list) else [value]
