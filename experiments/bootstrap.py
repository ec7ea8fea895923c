"""Differences over test rows: what a row of a table would score, were its test rows drawn again."""

import json
import statistics
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from experiments.statistics import Floats, drawn_again
from mtl.metrics import task_metrics, task_score
from mtl.tasks import Task

DRAWS = 500


class Predictions(NamedTuple):
    """What a model said of a task's test rows.

    Attributes:
        labels: Class numbers or targets, shape (rows,).
        outputs: Class probabilities, shape (rows, classes), or values, shape (rows, 1).
    """

    labels: torch.Tensor
    outputs: torch.Tensor


def predictions(task: Task, files: tuple[Path, ...]) -> Predictions | None:
    """Saved predictions of a task's splits, one after the other; None where a file is missing.

    Args:
        task: The task.
        files: Files that `mtl test` wrote.
    """
    if not files or not all(file.is_file() for file in files):
        return None
    lines = [
        json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()
    ]
    if task.regression:
        outputs = torch.tensor([[line["prediction"]] for line in lines])
        labels = torch.tensor([line["label"] for line in lines])
    else:
        outputs = torch.tensor(
            [[line["probabilities"][name] for name in task.classes] for line in lines]
        )
        labels = torch.tensor([task.classes.index(line["label"]) for line in lines])
    return Predictions(labels, outputs)


def scores_drawn_again(task: Task, metrics: Sequence[str], models: Sequence[Predictions]) -> Floats:
    """The mean over models of the mean of some metrics, in hundredths: of all test rows, then of each set drawn again.

    Any two calls for one task draw the same rows.

    Args:
        task: The task.
        metrics: Names of the metrics.
        models: What the models of all seeds said of the same rows.
    """
    measured = (
        _accuracy(models) if list(metrics) == ["accuracy"] else _measured(task, metrics, models)
    )
    return drawn_again(measured, len(models[0].labels), DRAWS, zlib.crc32(task.name.encode()))


def _accuracy(models: Sequence[Predictions]) -> Callable[[npt.NDArray[np.intp]], float]:
    right = np.mean([(model.outputs.argmax(1) == model.labels).numpy() for model in models], 0)
    return lambda places: 100 * float(right[places].mean())


def _measured(
    task: Task, metrics: Sequence[str], models: Sequence[Predictions]
) -> Callable[[npt.NDArray[np.intp]], float]:
    def of(places: npt.NDArray[np.intp]) -> float:
        at = torch.from_numpy(places)
        found: list[dict[str, Any]] = [
            task_metrics(task, model.outputs[at], model.labels[at]) for model in models
        ]
        return 100 * statistics.fmean(
            task_score({name: scores[name] for name in metrics}) for scores in found
        )

    return of
