"""A task's official metrics over a whole split, with torchmetrics; and the mean score over tasks."""

from collections.abc import Mapping
from statistics import fmean

import torch
from torch import Tensor
from torchmetrics.functional import classification, regression

from mtl.tasks import Task


def task_metrics(task: Task, outputs: Tensor, labels: Tensor) -> dict[str, float]:
    """The task's metrics over all rows of a split, each at its best at 1.

    F1 is that of class 1 where there are two classes (GLUE's MRPC and QQP), the mean over classes otherwise. A
    correlation with something that does not vary (Matthews, Pearson, Spearman) is undefined and counts as 0.

    Args:
        task: The task.
        outputs: Class probabilities, shape (rows, classes), or values, shape (rows, 1).
        labels: Class numbers or targets, shape (rows,).
    """
    if task.regression:
        values = outputs[:, 0].double()
        correlations = {"pearson": regression.pearson_corrcoef, "spearman": regression.spearman_corrcoef}
        varies = len(labels) > 1 and bool(values.min() < values.max()) and bool(labels.min() < labels.max())
        return {metric: float(correlations[metric](values, labels.double())) if varies else 0.0 for metric in task.metrics}
    classes = outputs.argmax(1)
    count = len(task.classes)
    # Undefined for one class alone, torchmetrics gives a limit that depends on the labels: 0.0256 on all of CoLA's.
    varies = bool((classes != classes[0]).any()) and bool((labels != labels[0]).any())
    scores = {
        "accuracy": lambda: (classes == labels).double().mean(),
        "matthews": lambda: classification.multiclass_matthews_corrcoef(classes, labels, count) if varies else torch.zeros(()),
        "f1": lambda: (
            classification.binary_f1_score(classes, labels)
            if count == 2
            else classification.multiclass_f1_score(classes, labels, count, average="macro")
        ),
    }
    return {metric: float(torch.nan_to_num(scores[metric]())) for metric in task.metrics}


def task_score(metrics: Mapping[str, float]) -> float:
    """One number for a task: the mean of its metrics, as GLUE counts MRPC, QQP and STS-B."""
    return fmean(metrics.values())


def mean_score(scores: Mapping[str, float]) -> float:
    """One number for a run: the mean over tasks; a task with several splits (`mnli/matched`) counts once.

    >>> round(mean_score({"mnli/matched": 0.8, "mnli/mismatched": 0.9, "cola": 0.55}), 6)
    0.7
    """
    by_task: dict[str, list[float]] = {}
    for name, score in scores.items():
        by_task.setdefault(name.partition("/")[0], []).append(score)
    return fmean(fmean(found) for found in by_task.values())
