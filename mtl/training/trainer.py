"""A run in Python: the Trainer that leaves in a folder what the command line leaves there."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from mtl.callbacks import (
    MetricsRecorder,
    SaveLastCheckpoint,
    TensorBoardReport,
    ThroughputMonitor,
    WritePredictions,
)
from mtl.callbacks.periodic_checkpoint import PeriodicCheckpoint
from mtl.errors import UserError
from mtl.training.run_folder import CHECKPOINTS, METRICS

DEFAULTS: dict[str, Any] = {
    "max_epochs": 3,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    # An Order gives each process its own rows already; Lightning's sampler would divide them once more.
    "use_distributed_sampler": False,
}
# Heads of tasks that a step lacks get no gradient, which DDP has to be told to expect.
DDP = "ddp_find_unused_parameters_true"


def trainer(out: str | Path, **options: Any) -> Trainer:
    """Lightning's Trainer with the command line's defaults, for a run that `mtl.load` and `mtl test` read.

    It leaves no `config.yaml`: a run that was cut off goes on in Python, `fit(..., ckpt_path=OUT/checkpoints/last.ckpt)`.

    Args:
        out: The run's folder.
        options: The Trainer's own, such as `max_epochs`; `callbacks` are added to those that leave the run.

    Raises:
        UserError: If the folder holds a finished run.
    """
    folder = Path(out)
    check_unused_folder(folder)
    logger = TensorBoardLogger(folder, name="", version="", default_hp_metric=False)
    more = options.pop("callbacks", None) or []
    callbacks = [*(more if isinstance(more, list) else [more]), *result_callbacks(folder)]
    callbacks += [LearningRateMonitor("step")] if options.get("logger", True) else []
    options = DEFAULTS | {"logger": logger, "default_root_dir": folder} | options
    made = Trainer(**options, callbacks=[*callbacks, *checkpoint_callbacks(folder)])
    if made.world_size > 1 and options.get("strategy", "auto") == "auto":
        made = Trainer(
            **options | {"strategy": DDP}, callbacks=[*callbacks, *checkpoint_callbacks(folder)]
        )
    return made


def result_callbacks(out: Path) -> list[Callback]:
    """What writes scores and predictions to a run's folder, and shows them in TensorBoard."""
    return [ThroughputMonitor(), WritePredictions(out), MetricsRecorder(out), TensorBoardReport()]


def checkpoint_callbacks(out: Path, every: int = 200) -> list[Callback]:
    """What writes checkpoints to a run's folder; after all others, whose state they hold.

    Args:
        out: The run's folder.
        every: Optimiser steps after which the last one is written anew.
    """
    place: dict[str, Any] = {
        "dirpath": out / CHECKPOINTS,
        "enable_version_counter": False,
        "save_top_k": 1,
    }
    return [
        # The best one is never trained on from where it stands: it needs no optimiser's state.
        ModelCheckpoint(
            filename="best", monitor="score/mean", mode="max", save_weights_only=True, **place
        ),
        # After the best one, so that the state it saves holds the best score so far.
        PeriodicCheckpoint(filename="last", every_n_train_steps=every, **place),
        SaveLastCheckpoint(out / CHECKPOINTS / "last.ckpt"),
    ]


def check_unused_folder(out: Path) -> None:
    """Raises a UserError if a folder holds a run."""
    if (out / METRICS).exists():
        raise UserError(
            f"{out} holds a finished run; give --out another folder, or delete this one to run it again"
        )
    if (out / CHECKPOINTS / "last.ckpt").exists():
        raise UserError(
            f"{out} holds a run that was cut off; go on with --ckpt_path last, or give --out another folder"
        )
