"""The metrics of tasks, computed with torchmetrics, and their means."""

from collections.abc import Mapping
from statistics import fmean

from torch import Tensor

from mtl.metric_functions import is_error, metric_function
from mtl.tasks import Task, TokenLabels
from mtl.tasks.token_metrics import TOKEN_METRICS, example_counts


def task_metrics(task: Task, outputs: Tensor, labels: Tensor) -> dict[str, float]:
    """Computes the task's metrics over all examples of a split.

    F1 is that of class 1 if there are two classes (GLUE's MRPC and QQP), else the mean over
    classes. Correlations (Matthews, Pearson, Spearman, Kendall) and R² are undefined if labels are
    constant, and count as 0 then.

    Args:
        task: The task.
        outputs: Class probabilities, shape (examples, classes), or values, shape (examples, 1).
        labels: Class indices or targets, shape (examples,), or 0 and 1, shape (examples, classes).
    """
    if isinstance(task.kind, TokenLabels):
        counts = example_counts(task.kind, outputs.numpy(), labels.numpy()).sum(0)
        return {metric: float(TOKEN_METRICS[metric](counts)) for metric in task.metrics}
    return {name: float(metric_function(task, name)(outputs, labels)) for name in task.metrics}


def task_score(metrics: Mapping[str, float]) -> float:
    """The score of a task: the mean of its metrics, as GLUE scores MRPC, QQP and STS-B.

    Errors, of which smaller values are better, are not part of it.
    """
    return fmean(value for name, value in metrics.items() if not is_error(name))


def mean_score(scores: Mapping[str, float]) -> float:
    """The score of a run: the mean over tasks. A task with several splits counts once.

    >>> round(mean_score({"mnli/matched": 0.8, "mnli/mismatched": 0.9, "cola": 0.55}), 6)
    0.7
    """
    by_task: dict[str, list[float]] = {}
    for name, score in scores.items():
        by_task.setdefault(name.partition("/")[0], []).append(score)
    return fmean(fmean(split_scores) for split_scores in by_task.values())
