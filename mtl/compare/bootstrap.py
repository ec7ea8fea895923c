"""Scores of a table's rows on bootstrap resamples of the test examples."""

import statistics
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from mtl.compare.statistics import Floats, Indices, resampled_metric
from mtl.metrics import task_metrics, task_score
from mtl.predictions import Predictions, read_predictions
from mtl.tasks import Task

RESAMPLES = 500


def read_test_predictions(task: Task, files: Sequence[Path]) -> Predictions | None:
    """Reads the saved predictions of all test splits of a task; None if a file is missing.

    Args:
        task: The task.
        files: Prediction files, one per split.
    """
    if not files or not all(file.is_file() for file in files):
        return None
    splits = [read_predictions(file, task).labelled() for file in files]
    _, ids, labels, outputs, losses = zip(*splits, strict=True)
    return Predictions(task, *(torch.cat(tensors) for tensors in (ids, labels, outputs, losses)))


def resampled_scores(task: Task, metrics: Sequence[str], models: Sequence[Predictions]) -> Floats:
    """A task's score on the test set and on its resamples, the mean over models, in hundredths.

    All calls for one task use the same resamples.

    Args:
        task: The task.
        metrics: Names of the metrics whose mean is the score.
        models: The predictions of the models of all seeds for the same examples.

    Returns:
        The scores, shape (1 + resamples,).
    """
    only_accuracy = list(metrics) == ["accuracy"]
    score = _accuracy(models) if only_accuracy else _mean_score(task, metrics, models)
    seed = zlib.crc32(task.name.encode())
    return resampled_metric(score, len(models[0].labels), RESAMPLES, seed)


def _accuracy(models: Sequence[Predictions]) -> Callable[[Indices], float]:
    """The mean accuracy of the models.

    Faster than computing it with torchmetrics for every resample.
    """
    correct = np.mean([(model.outputs.argmax(1) == model.labels).numpy() for model in models], 0)
    return lambda indices: 100 * float(correct[indices].mean())


def _mean_score(
    task: Task, metrics: Sequence[str], models: Sequence[Predictions]
) -> Callable[[Indices], float]:
    def score(indices: Indices) -> float:
        chosen = torch.from_numpy(indices)
        values = [
            task_metrics(task, model.outputs[chosen], model.labels[chosen]) for model in models
        ]
        return 100 * statistics.fmean(
            task_score({name: results[name] for name in metrics}) for results in values
        )

    return score
