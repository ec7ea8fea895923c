"""Writes `metrics.json`: the results of a run, and how it was made."""

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from torch.utils.tensorboard.summary import hparams

from mtl.callbacks.run_description import (
    current_scores,
    describe_run,
    parameter_counts,
    scalar_hparams,
    selected_on_test,
)
from mtl.callbacks.score_table import show_scores
from mtl.callbacks.throughput import ThroughputMonitor
from mtl.callbacks.typed_trainer import (
    callback_of,
    datamodule_of,
    is_dry_run,
    tensorboard_loggers,
)
from mtl.errors import UserError
from mtl.system.hardware import peak_memory, reset_peak_memory
from mtl.training.calibration_file import CALIBRATION
from mtl.training.run_folder import (
    CHECKPOINTS,
    LAST,
    METRICS,
    PREDICTIONS,
    read_metrics,
    write_atomic,
)

# TensorBoard tags of the best validation score and of the test score, next to hyper-parameters.
SCORE, TEST = "hp/score", "hp/test"


class MetricsRecorder(Callback):
    """Writes `metrics.json` at the end of a command, and prints the scores as a table.

    `validation` contains the scores of the best checkpoint, `last` those of the last weights,
    `test` and `validated` those of `mtl test` and `mtl validate`. `examples_drawn` is the number of
    training examples drawn, by task. `memory` is the peak in bytes, of the GPU, or of the process
    on a CPU. `code` and `data` are fingerprints of the package's source and of the data.
    An interrupted run has no `metrics.json`.

    Args:
        out: The run's folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.best: dict[str, Any] = {}
        self.last: dict[str, Any] = {}
        self.seconds = 0.0
        self._start = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """The scores so far, and the run's duration in seconds, including that before a resume."""
        return {"best": self.best, "last": self.last, "seconds": self._elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores scores and duration."""
        self.best, self.last = state_dict["best"], state_dict["last"]
        self.seconds = state_dict["seconds"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Starts the clock."""
        self._start = time.perf_counter()
        if stage == "fit":
            reset_peak_memory(trainer.strategy.root_device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes the results of a finished run that goes on: they are not those of its weights."""
        if trainer.is_global_zero and not is_dry_run(trainer):
            for name in (METRICS, CALIBRATION):
                (self.out / name).unlink(missing_ok=True)
            shutil.rmtree(self.out / PREDICTIONS, ignore_errors=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stores the scores.

        It is called before the checkpoint callbacks, so that a checkpoint contains its own scores.
        """
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        scores = current_scores(pl_module)
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._write(trainer, pl_module, {"validated": scores})
            show_scores(self.out, "validation", scores)
            return
        position = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        self.last = scores | position
        best = current_scores(pl_module, best=True)
        if not self.best or best["mean"] > self.best["mean"]:
            self.best = best | position

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the results of the training.

        Raises:
            UserError: If it ended before its first step.
        """
        if is_dry_run(trainer) or trainer.interrupted:
            return
        if trainer.global_step == 0:
            raise UserError(
                "nothing was trained: the time that --trainer.max_time or a callback allows ended "
                "before the first step; allow more"
            )
        if not trainer.is_global_zero:
            return
        throughput = callback_of(trainer, ThroughputMonitor)
        results = {
            "validation": self.best,
            "last": self.last,
            "seconds": self._elapsed(),
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "examples_drawn": dict(throughput.examples) if throughput else {},
            "memory": peak_memory(pl_module.device),
            "parameters": parameter_counts(pl_module),
        }
        self._write(trainer, pl_module, results)
        if self.best:
            self._log_hparams(trainer, pl_module)
            show_scores(self.out, "validation, best checkpoint", self.best)
        else:
            last = self.out / CHECKPOINTS / LAST
            written = f"the last one is {last}" if last.is_file() else "no checkpoint was written"
            Console().print(
                "Training ended before the first validation, so there is no best checkpoint; "
                f"{written}."
            )

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the results of the test."""
        if not trainer.is_global_zero or is_dry_run(trainer):
            return
        run = describe_run(trainer, pl_module)
        scores = current_scores(pl_module) | {
            name: run[name] for name in ("versions", "code", "device", "precision")
        }
        scores |= {"selected_on_test": selected_on_test(datamodule_of(trainer))}
        self._write(trainer, pl_module, {"test": scores})
        for logger in trainer.loggers:
            logger.log_metrics({TEST: scores["mean"]}, trainer.global_step)
        show_scores(self.out, "test", scores)
        if selected := scores["selected_on_test"]:
            Console().print(
                "The checkpoint was selected with the test examples of these tasks: "
                f"{', '.join(selected)} (see --data.holdout)."
            )

    def _log_hparams(self, trainer: Trainer, module: LightningModule) -> None:
        for logger in tensorboard_loggers(trainer):
            # Both metrics are announced now; the test adds the value of the second.
            for summary in hparams(
                scalar_hparams(trainer, module), dict.fromkeys((SCORE, TEST), 0.0)
            ):
                logger.experiment.file_writer.add_summary(summary)
            logger.log_metrics({SCORE: self.best["mean"]}, trainer.global_step)

    def _elapsed(self) -> float:
        return self.seconds + time.perf_counter() - self._start

    def _write(self, trainer: Trainer, module: LightningModule, results: dict[str, Any]) -> None:
        """Merges results into `metrics.json`.

        What describes the training is not overwritten, because a test may run on another machine.
        """
        stored, run = read_metrics(self.out), describe_run(trainer, module)
        # A test opens other splits than the training.
        data = stored.get("data", {}) | run["data"]
        metrics = run | stored | {"data": data} | results
        text = json.dumps(without_nan(metrics), indent=2, allow_nan=False)
        write_atomic(self.out / METRICS, text + "\n")


def without_nan(value: Any) -> Any:
    """Replaces numbers that are not finite, which JSON does not have, by None.

    >>> without_nan({"mean": float("nan"), "loss": [0.5, float("inf")]})
    {'mean': None, 'loss': [0.5, None]}
    """
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
