"""The metrics of tasks on many resamples of the test examples at once.

A resample is given by how often it holds each example. `mtl.metrics` defines the metrics; the
functions here agree with it on every resample.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from mtl.compare.estimate import Floats
from mtl.metric_functions import MetricFunction, metric_function
from mtl.tasks import MultiLabel, Task
from mtl.tasks.multi_label import THRESHOLD
from mtl.tasks.token_metrics import TOKEN_METRICS

Labels = npt.NDArray[np.generic]

# From outputs (examples, ...), labels (examples,), counts (resamples, examples) to (resamples,).
ResampledMetric = Callable[[Floats, Labels, Floats], Floats]


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient; 0 where it is undefined."""
    defined = np.abs(denominator) > 1e-12
    return np.where(defined, numerator / np.where(defined, denominator, 1.0), 0.0)


def _one_hot(values: Labels, classes: int) -> Floats:
    return np.asarray(values[:, None] == np.arange(classes), dtype=np.float32)


def _accuracy(outputs: Floats, labels: Labels, counts: Floats) -> Floats:
    correct = (outputs.argmax(1) == labels).astype(np.float32)
    return _ratio(counts @ correct, counts.sum(1))


def _class_counts(outputs: Floats, labels: Labels, counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Correct predictions, predictions and labels of each class, each (resamples, classes)."""
    predicted, classes = outputs.argmax(1), outputs.shape[1]
    true = _one_hot(labels, classes)
    correct = true * (predicted == labels)[:, None]
    matrices = (correct, _one_hot(predicted, classes), true)
    first, second, third = ((counts @ matrix).astype(float) for matrix in matrices)
    return first, second, third


def _f1(outputs: Floats, labels: Labels, counts: Floats) -> Floats:
    if outputs.shape[1] != 2:
        return _f1_macro(outputs, labels, counts)
    correct, predicted, true = _class_counts(outputs, labels, counts)
    return _ratio(2 * correct, predicted + true)[:, 1]


def _f1_macro(outputs: Floats, labels: Labels, counts: Floats) -> Floats:
    correct, predicted, true = _class_counts(outputs, labels, counts)
    each = _ratio(2 * correct, predicted + true)
    # Classes that are neither predicted nor labels of a resample do not count.
    return _ratio(each.sum(1), (predicted + true > 0).sum(1).astype(float))


def _f1_weighted(outputs: Floats, labels: Labels, counts: Floats) -> Floats:
    correct, predicted, true = _class_counts(outputs, labels, counts)
    each = _ratio(2 * correct, predicted + true)
    return _ratio((each * true).sum(1), true.sum(1))


def _balanced_accuracy(outputs: Floats, labels: Labels, counts: Floats) -> Floats:
    correct, _, true = _class_counts(outputs, labels, counts)
    return _ratio(_ratio(correct, true).sum(1), (true > 0).sum(1).astype(float))


def _matthews(outputs: Floats, labels: Labels, counts: Floats) -> Floats:
    """Matthews' coefficient of several classes (Gorodkin 2004)."""
    correct, predicted, true = _class_counts(outputs, labels, counts)
    size = true.sum(1)
    covariance = correct.sum(1) * size - (predicted * true).sum(1)
    spread = (size**2 - (predicted**2).sum(1)) * (size**2 - (true**2).sum(1))
    return _ratio(covariance, np.sqrt(spread))


def _weighted_correlation(ours: Floats, theirs: Floats, counts: Floats) -> Floats:
    """Pearson's coefficient; the values are (resamples, examples), or (examples,) for all."""
    first, second = _centered(ours, counts), _centered(theirs, counts)
    covariance = (counts * first * second).sum(1)
    return _ratio(covariance, np.sqrt((counts * first**2).sum(1) * (counts * second**2).sum(1)))


def _centered(values: Floats, counts: Floats) -> Floats:
    """The values minus their mean in each resample; exactly 0 if they are all equal there."""
    drawn = np.broadcast_to(values, counts.shape)
    low = np.where(counts > 0, drawn, np.inf).min(1, keepdims=True)
    high = np.where(counts > 0, drawn, -np.inf).max(1, keepdims=True)
    mean = (counts * drawn).sum(1, keepdims=True) / counts.sum(1, keepdims=True)
    return np.asarray((drawn - mean) * (low < high))


def _pearson(outputs: Floats, labels: Labels, counts: Floats) -> Floats:
    return _weighted_correlation(
        outputs[:, 0].astype(float), labels.astype(float), counts.astype(float)
    )


def _spearman(outputs: Floats, labels: Labels, counts: Floats) -> Floats:
    counts = counts.astype(float)
    return _weighted_correlation(_ranks(outputs[:, 0], counts), _ranks(labels, counts), counts)


def _ranks(values: Labels, counts: Floats) -> Floats:
    """Rank of each example in each resample, tied examples by their mean rank."""
    _, groups = np.unique(values, return_inverse=True)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    ranks = np.cumsum(sizes, 1) - sizes / 2
    return np.asarray(ranks[:, groups])


def _of_counts(metric: Callable[[Floats], Floats]) -> ResampledMetric:
    """A metric of token labels, whose "outputs" are what it counts in each example."""
    return lambda outputs, labels, counts: metric(counts.astype(float) @ outputs)


def _r2(outputs: Floats, labels: Labels, counts: Floats) -> Floats:
    targets, counts = labels.astype(float), counts.astype(float)
    errors = counts @ (targets - outputs[:, 0].astype(float)) ** 2
    deviations = (counts * _centered(targets, counts) ** 2).sum(1)
    return np.asarray(np.where(deviations > 0, 1 - _ratio(errors, deviations), 0.0))


def _absolute_error(outputs: Floats, labels: Labels, counts: Floats) -> Floats:
    errors = np.abs(outputs[:, 0].astype(float) - labels.astype(float))
    return _ratio(counts @ errors, counts.sum(1).astype(float))


def _root_squared_error(outputs: Floats, labels: Labels, counts: Floats) -> Floats:
    errors = (outputs[:, 0].astype(float) - labels.astype(float)) ** 2
    return np.asarray(np.sqrt(_ratio(counts @ errors, counts.sum(1).astype(float))))


def _label_counts(outputs: Floats, labels: Labels) -> tuple[Floats, Floats]:
    """Correct predictions, and predictions plus labels, each (examples, classes)."""
    predicted, true = np.asarray(outputs >= THRESHOLD), np.asarray(labels.astype(float) > 0)
    correct, both = (predicted & true).astype(float), predicted.astype(float) + true
    return correct, both


def _label_f1_micro(outputs: Floats, labels: Labels, counts: Floats) -> Floats:
    correct, both = (each.sum(1) for each in _label_counts(outputs, labels))
    return _ratio(2 * (counts @ correct), counts @ both)


def _label_f1_macro(outputs: Floats, labels: Labels, counts: Floats) -> Floats:
    correct, both = _label_counts(outputs, labels)
    return np.asarray(_ratio(2 * (counts @ correct), counts @ both).mean(1))


def _label_f1_samples(outputs: Floats, labels: Labels, counts: Floats) -> Floats:
    correct, both = (each.sum(1) for each in _label_counts(outputs, labels))
    return _ratio(counts @ _ratio(2 * correct, both), counts.sum(1).astype(float))


def _subset_accuracy(outputs: Floats, labels: Labels, counts: Floats) -> Floats:
    same = ((outputs >= THRESHOLD) == (labels.astype(float) > 0)).all(1).astype(float)
    return _ratio(counts @ same, counts.sum(1).astype(float))


def resampled_metric(task: Task, name: str) -> ResampledMetric:
    """The function of one of a task's metrics. If there is none, resamples are taken one by one."""
    functions = MULTI_LABEL_METRICS if isinstance(task.kind, MultiLabel) else RESAMPLED_METRICS
    return functions.get(name) or partial(_one_by_one, metric_function(task, name))


def _one_by_one(metric: MetricFunction, outputs: Floats, labels: Labels, counts: Floats) -> Floats:
    values, targets = torch.from_numpy(outputs), torch.from_numpy(labels)
    examples = torch.arange(len(labels))
    drawn = (examples.repeat_interleave(torch.from_numpy(row).long()) for row in counts)
    return np.array([float(metric(values[each], targets[each])) for each in drawn])


RESAMPLED_METRICS: dict[str, ResampledMetric] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "f1_macro": _f1_macro,
    "f1_weighted": _f1_weighted,
    "balanced_accuracy": _balanced_accuracy,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
    **{name: _of_counts(metric) for name, metric in TOKEN_METRICS.items()},
    "r2": _r2,
    "mae": _absolute_error,
    "rmse": _root_squared_error,
}
MULTI_LABEL_METRICS: dict[str, ResampledMetric] = {
    "f1_micro": _label_f1_micro,
    "f1_macro": _label_f1_macro,
    "f1_samples": _label_f1_samples,
    "subset_accuracy": _subset_accuracy,
}
