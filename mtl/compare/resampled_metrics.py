"""The metrics of tasks on many resamples of the test examples at once.

A resample is given by how often it holds each example. `mtl.metrics` defines the metrics; the
functions here agree with it on every resample.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mtl.compare.estimate import Floats
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
    correct, predicted, true = _class_counts(outputs, labels, counts)
    each = _ratio(2 * correct, predicted + true)
    if outputs.shape[1] == 2:
        return each[:, 1]
    # Classes that are neither predicted nor labels of a resample do not count.
    return _ratio(each.sum(1), (predicted + true > 0).sum(1).astype(float))


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


RESAMPLED_METRICS: dict[str, ResampledMetric] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
    **{name: _of_counts(metric) for name, metric in TOKEN_METRICS.items()},
}
