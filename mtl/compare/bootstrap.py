"""Scores of many models on bootstrap resamples of the test examples."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mtl.compare.estimate import Floats
from mtl.compare.resampled_metrics import resampled_metric
from mtl.predictions import Predictions, read_predictions
from mtl.tasks import Task, TokenLabels
from mtl.tasks.token_metrics import example_counts

RESAMPLES = 2000
# Numbers in the largest matrix that is held at once.
CHUNK = 8_000_000


def read_test_predictions(task: Task, file: Path) -> Predictions | None:
    """Reads the saved predictions for the labelled examples of a test split.

    Args:
        task: The task.
        file: The prediction file.

    Returns:
        The predictions; None if there is no such file, or no labelled example.
    """
    if not file.is_file():
        return None
    predictions = read_predictions(file, task).labelled()
    return predictions if len(predictions.labels) else None


def same_examples(one: Predictions, other: Predictions) -> bool:
    """Whether two predictions are for the same examples with the same labels."""
    return torch.equal(one.ids, other.ids) and torch.equal(one.labels, other.labels)


def resampled_metrics(
    split: str, metrics: Sequence[str], models: Sequence[Predictions]
) -> dict[str, Floats]:
    """The metrics of models on the resamples of a test split.

    The resamples depend on the name and the size of the split only: the same for all models,
    independent across tasks.

    Args:
        split: Name of the split, such as `mnli/matched`.
        metrics: Names of the metrics.
        models: The predictions of each model, for the same examples.

    Returns:
        For each metric its values in hundredths, shape (models, resamples).
    """
    values: dict[str, Floats] = {metric: np.empty((len(models), RESAMPLES)) for metric in metrics}
    arrays = [_arrays(model) for model in models]
    functions = {metric: resampled_metric(models[0].task, metric) for metric in metrics}
    start = 0
    for counts in _resamples(split, len(models[0].labels)):
        stop = start + len(counts)
        for index, (outputs, labels) in enumerate(arrays):
            for metric, rows in values.items():
                rows[index, start:stop] = 100 * functions[metric](outputs, labels, counts)
        start = stop
    return values


def _arrays(model: Predictions) -> tuple[Floats, npt.NDArray[Any]]:
    """Outputs and labels of each example; for token labels, what their metrics count in it."""
    outputs, labels = model.outputs.float().numpy(), model.labels.numpy()
    if isinstance(model.task.kind, TokenLabels):
        return example_counts(model.task.kind, outputs, labels), labels
    return outputs, labels


def _resamples(split: str, examples: int) -> Iterator[Floats]:
    """How often each resample holds each example, in chunks of shape (resamples, examples)."""
    generator = np.random.default_rng(zlib.crc32(split.encode()))
    size = max(1, min(RESAMPLES, CHUNK // examples))
    for start in range(0, RESAMPLES, size):
        count = min(size, RESAMPLES - start)
        drawn = generator.integers(examples, size=(count, examples))
        drawn += examples * np.arange(count)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=count * examples)
        yield counts.reshape(count, examples).astype(np.float32)
