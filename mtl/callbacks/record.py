"""What a run found and how it was made, for people and for tables."""

import json
import math
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.table import Table as RichTable
from torch.utils.tensorboard.summary import hparams

from mtl.callbacks.throughput import ThroughputMonitor
from mtl.data import MultiTaskDataModule
from mtl.methods.base import MultiTaskModule, SplitResult
from mtl.system.provenance import peak_memory, provenance, reset_peak_memory
from mtl.training.run_folder import CHECKPOINTS, METRICS, read_metrics, write_atomic

# What TensorBoard shows of a run beside its hyper-parameters: the best validation score, and the test's.
SCORE, TEST = "hp/score", "hp/test"


class MetricsRecorder(Callback):
    """Writes `metrics.json` when a command has ended, and shows the scores as a table.

    `validation` holds the scores of the best checkpoint, `last` those of the last weights, `test` and `validated` those
    of `mtl test` and `mtl validate`; `examples` the rows drawn of each task, `memory` the most bytes of the GPU, or of the
    process on a CPU; `code` and `data` are fingerprints of the package's source and of the rows.
    A run that was cut short has no `metrics.json`.

    Args:
        out: The run's folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.best: dict[str, Any] = {}
        self.last: dict[str, Any] = {}
        self.seconds = 0.0
        self._since = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """The best scores so far, and the seconds that the run has taken, over all of its parts."""
        return {"best": self.best, "last": self.last, "seconds": self._elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        self.best, self.last, self.seconds = (
            state_dict["best"],
            state_dict["last"],
            state_dict["seconds"],
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Starts the clock."""
        self._since = time.perf_counter()
        if stage == "fit":
            reset_peak_memory(trainer.strategy.root_device)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers the scores; called before the checkpoint callbacks, so that a checkpoint holds its own scores."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._write(trainer, pl_module, {"validated": _scores(pl_module)})
            show_scores(self.out, "validation", _scores(pl_module))
            return
        self.last = _scores(pl_module) | {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
        }
        if not self.best or self.last["mean"] > self.best["mean"]:
            self.best = self.last

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the run's metrics."""
        if not trainer.is_global_zero or trainer.fast_dev_run or trainer.interrupted:  # type: ignore[attr-defined]
            return
        parameters = list(pl_module.parameters())
        found = {
            "validation": self.best,
            "last": self.last,
            "seconds": self._elapsed(),
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "examples": next(
                (
                    dict(other.rows)
                    for other in trainer.callbacks
                    if isinstance(other, ThroughputMonitor)
                ),
                {},
            ),  # type: ignore[attr-defined]
            "memory": peak_memory(pl_module.device),
            "parameters": {
                "total": sum(parameter.numel() for parameter in parameters),
                "trained": sum(
                    parameter.numel() for parameter in parameters if parameter.requires_grad
                ),
            },
        }
        self._write(trainer, pl_module, found)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and self.best:
                for part in hparams(
                    _settings(trainer, pl_module), dict.fromkeys((SCORE, TEST), 0.0)
                ):  # both are announced
                    logger.experiment.file_writer.add_summary(part)
                logger.log_metrics({SCORE: self.best["mean"]}, trainer.global_step)
        if self.best:
            show_scores(self.out, "validation, best checkpoint", self.best)
        else:
            last = self.out / CHECKPOINTS / "last.ckpt"
            Console().print(
                f"The run ended before the first validation: there is no best checkpoint, and {last} is the last."
            )

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the test's scores to the run's metrics."""
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            made = _made(trainer, pl_module)
            scores = _scores(pl_module) | {
                name: made[name] for name in ("versions", "code", "device", "precision")
            }
            scores |= {"selected_on_test": selected_on_test(trainer.datamodule)}  # type: ignore[attr-defined]
            self._write(trainer, pl_module, {"test": scores})
            for logger in trainer.loggers:
                logger.log_metrics({TEST: scores["mean"]}, trainer.global_step)
            show_scores(self.out, "test", scores)
            if selected := scores["selected_on_test"]:
                Console().print(
                    f"The rows tested also selected the checkpoint: {', '.join(selected)} (see --data.holdout)."
                )

    def _elapsed(self) -> float:
        return self.seconds + time.perf_counter() - self._since

    def _write(self, trainer: Trainer, module: LightningModule, found: dict[str, Any]) -> None:
        before, made = read_metrics(self.out), _made(trainer, module)
        made["data"] = (
            before.get("data", {}) | made["data"]
        )  # a test opens other splits than the training did
        # What was said of the training stands: a test may run elsewhere.
        write_atomic(
            self.out / METRICS,
            json.dumps(made | before | {"data": made["data"]} | found, indent=2) + "\n",
        )


def show_scores(out: Path, title: str, scores: dict[str, Any]) -> None:
    """Prints scores as a table: a line for each split, and the run's score."""
    table = RichTable(title=f"{out}: {title}", title_justify="left")
    for column in ("task", "rows", "metrics", "score"):
        table.add_column(column, justify="left" if column in ("task", "metrics") else "right")
    for name, result in scores.get("tasks", {}).items():
        metrics = "  ".join(f"{metric} {value:.4f}" for metric, value in result["metrics"].items())
        table.add_row(name, f"{result['examples']:,}", metrics, f"{result['score']:.4f}")
    if scores:
        table.add_section()
        table.add_row(
            "score" if "score" in scores else "mean",
            "",
            scores.get("score", ""),
            f"{scores['mean']:.4f}",
        )
    Console().print(table)


def selected_on_test(data: MultiTaskDataModule) -> list[str]:
    """Tasks whose test rows are those that selected the checkpoint."""
    return [
        task.name
        for task in data.tasks
        if not data.sets_aside(task) and set(task.splits.test) & set(task.splits.validation)
    ]


def _scores(module: LightningModule) -> dict[str, Any]:
    assert isinstance(module, MultiTaskModule)
    results: dict[str, SplitResult] = module.results
    scores = {"mean": module.suite_score() if results else math.nan, "tasks": results}
    return scores | ({"score": module.score.text} if module.score else {})


def _settings(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Hyper-parameters that are a number, a word or a flag, for TensorBoard's table."""
    merged = {**trainer.datamodule.hparams, **module.hparams}  # type: ignore[attr-defined]
    settings = {
        name: value
        for name, value in merged.items()
        if isinstance(value, str | int | float) and name[0] != "_"
    }
    settings |= {"method": type(module).__name__, "scheme": type(trainer.datamodule).__name__}  # type: ignore[attr-defined]
    return settings | {"tasks": " ".join(task.name for task in module.tasks)}  # type: ignore[union-attr]


def _made(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    assert isinstance(module, MultiTaskModule)
    data = trainer.datamodule  # type: ignore[attr-defined]
    return {
        "method": type(module).__name__,
        "scheme": type(data).__name__,
        "backbone": module.backbone,
        "seed": data.seed,
        "tasks": {
            task.name: {"version": task.version, "metrics": task.metrics} for task in module.tasks
        },
        **provenance(),
        "data": data.fingerprints,
        "device": str(module.device),
        "precision": str(trainer.precision),
        "processes": trainer.world_size,
    }
