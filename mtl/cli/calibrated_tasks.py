"""Fits and stores the temperatures of `mtl calibrate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from mtl.calibration import calibration_error, fit_temperature, mean_loss
from mtl.callbacks.run_description import selected_on_test
from mtl.cli.checkpoints import load_weights
from mtl.cli.merge_evaluation import Evaluation
from mtl.errors import UserError, reject_unknown
from mtl.methods.task_model import scaled
from mtl.predictions import Predictions
from mtl.tasks import Classification, Task
from mtl.training.calibration_file import write_calibration


class Calibrated(NamedTuple):
    """A task's calibration, as it is written to `calibration.json`.

    Attributes:
        temperature: The temperature.
        examples: Number of validation examples.
        loss: Mean negative log-likelihood before and after.
        calibration_error: Expected calibration error before and after.
    """

    temperature: float
    examples: int
    loss: tuple[float, float]
    calibration_error: tuple[float, float]


def choose_tasks(tasks: Sequence[Task], names: Sequence[str]) -> list[Task]:
    """The tasks to calibrate.

    Args:
        tasks: The tasks of the run.
        names: Those that the user named; if empty, all that can be calibrated.

    Raises:
        UserError: If a named task, or every task, cannot be calibrated.
    """
    reject_unknown("--task", "task", names, [task.name for task in tasks])
    chosen = [task for task in tasks if task.name in names or not names]
    unfit = [task for task in chosen if not isinstance(task.kind, Classification)]
    if unfit and (names or len(unfit) == len(chosen)):
        raise UserError(
            f"task {unfit[0].name!r} cannot be calibrated: a temperature needs the probabilities "
            "of several classes of which one is right, and it predicts "
            f"{unfit[0].kind.description}"
        )
    for task in unfit:
        print(f"{task.name}: not calibrated, it is a task of kind {task.kind.name}")
    return [task for task in chosen if task not in unfit]


def calibrate_tasks(evaluation: Evaluation, tasks: Sequence[Task], named: bool) -> None:
    """Evaluates the validation splits, fits the temperatures, stores and prints them.

    Args:
        evaluation: The run.
        tasks: The tasks to calibrate.
        named: Whether the user named them, so that each must succeed.

    Raises:
        UserError: If a task that is named, or every task, cannot be calibrated.
    """
    checkpoint = Path(evaluation.config["validate"].ckpt_path)
    load_weights(evaluation.model, str(checkpoint))
    evaluation.model.temperatures = {}  # of an earlier calibration
    evaluation.scores()
    results: dict[str, Calibrated] = {}
    for task in tasks:
        try:
            results[task.name] = _calibrated(evaluation.model.predictions, task)
        except ValueError as error:
            message = f"task {task.name!r} cannot be calibrated: {error}"
            if named or (task is tasks[-1] and not results):
                raise UserError(message) from error
            print(message)
    path = write_calibration(checkpoint, {name: each._asdict() for name, each in results.items()})
    _show(path, results)
    for name in selected_on_test(evaluation.model.scheme):
        if name in results:
            print(
                f"{name}: its validation examples are its test examples, so that the calibration "
                "error that `mtl test` reports is optimistic"
            )


def _calibrated(predictions: dict[str, Predictions], task: Task) -> Calibrated:
    """Calibrates a task on all of its validation splits.

    Raises:
        ValueError: If no temperature is best.
    """
    splits = [
        each.labelled() for split, each in predictions.items() if split.split("/")[0] == task.name
    ]
    if not splits:
        raise ValueError("it has no validation split")
    outputs = np.concatenate([split.outputs.numpy() for split in splits])
    labels = np.concatenate([split.labels.numpy() for split in splits])
    temperature = fit_temperature(outputs, labels)
    after = np.concatenate([scaled(split.outputs, temperature).numpy() for split in splits])
    return Calibrated(
        temperature,
        len(labels),
        (mean_loss(outputs, labels), mean_loss(outputs, labels, temperature)),
        (calibration_error(outputs, labels), calibration_error(after, labels)),
    )


def _show(path: Path, results: dict[str, Calibrated]) -> None:
    table = Table(title=f"{path}: validation examples, before → after", title_justify="left")
    for column in ("task", "examples", "temperature", "log loss", "calibration error"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for name, each in results.items():
        pairs = (each.loss, each.calibration_error)
        changes = (f"{before:.4f} → {after:.4f}" for before, after in pairs)
        table.add_row(name, f"{each.examples:,}", f"{each.temperature:.3f}", *changes)
    Console().print(table)
