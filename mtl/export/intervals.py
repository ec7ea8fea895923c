"""Intervals of a run's test scores, from its saved predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mtl.compare.bootstrap import read_test_predictions, resampled_metrics
from mtl.compare.estimate import Floats
from mtl.tasks import Task
from mtl.training.run_folder import PREDICTIONS

LEVEL = 0.95

# The ends of the interval of each metric, by split.
Intervals = Mapping[str, Mapping[str, tuple[float, float]]]


def score_intervals(folder: Path | None, splits: Sequence[str], tasks: Sequence[Task]) -> Intervals:
    """95 % intervals of the metrics on resamples of the test examples (percentile bootstrap).

    They cover the choice of the test examples, for this one model, not the noise of the training.

    Args:
        folder: The run's folder; None if it is not available.
        splits: Names of the test splits, such as `mnli/matched`.
        tasks: The tasks of the export.

    Returns:
        The intervals of the splits whose predictions are saved, as fractions.
    """
    by_name = {task.name: task for task in tasks}
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for split in splits:
        task = by_name.get(split.partition("/")[0])
        if folder is None or task is None:
            continue
        file = folder / PREDICTIONS / "test" / f"{split.replace('/', '-')}.jsonl"
        predictions = read_test_predictions(task, file)
        if predictions is None:
            continue
        found[split] = {
            metric: (_quantile(values[0], (1 - LEVEL) / 2), _quantile(values[0], (1 + LEVEL) / 2))
            for metric, values in resampled_metrics(split, task.metrics, [predictions]).items()
        }
    return found


def _quantile(hundredths: Floats, share: float) -> float:
    return float(np.quantile(hundredths, share)) / 100
