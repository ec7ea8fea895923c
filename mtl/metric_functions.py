"""The functions of metrics: from the outputs and labels of a split to a number."""

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from inspect import signature
from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional import classification, regression

from mtl.errors import UserError
from mtl.tasks import Task
from mtl.tasks.kinds import ERRORS
from mtl.tasks.multi_label import THRESHOLD, MultiLabel
from mtl.tasks.task_checks import TORCHMETRICS_CLASS

# From the outputs and labels of all examples of a split to a number.
MetricFunction = Callable[[Tensor, Tensor], Tensor]


def metric_function(task: Task, name: str) -> MetricFunction:
    """The function of one of a task's metrics.

    Raises:
        UserError: If the name is not a metric that can be computed for the task.
    """
    if "." in name:
        return partial(_torchmetrics_value, name, task)
    functions = MULTI_LABEL_METRICS if isinstance(task.kind, MultiLabel) else METRICS
    return functions[name]


def is_error(name: str) -> bool:
    """Whether smaller values of a metric are better."""
    return name in ERRORS if "." not in name else metric_class(name).higher_is_better is False


@cache
def metric_class(path: str) -> type[Metric]:
    """The class of torchmetrics with an import path.

    Only `torchmetrics.classification` and `torchmetrics.regression` are imported, because a task
    file may come from a stranger.

    Raises:
        UserError: If there is no such class.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name) if TORCHMETRICS_CLASS.fullmatch(path) else None
    except (ImportError, AttributeError):
        found = None
    own = isinstance(found, type) and issubclass(found, Metric)
    if found is None or not own or not str(found.__module__).startswith("torchmetrics."):
        raise UserError(
            f"metrics: there is no class {path!r}; give one of torchmetrics.classification or "
            "torchmetrics.regression"
        )
    return cast("type[Metric]", found)


def check_metrics(task: Task) -> None:
    """Checks that the task's classes of torchmetrics exist and can be computed.

    Raises:
        UserError: If one does not exist, or is not a single number for such a task.
    """
    for name in task.metrics:
        if "." in name:
            outputs = torch.full((4, task.kind.output_size), 0.5)
            labels: Tensor = torch.zeros((4, task.kind.output_size))
            if not isinstance(task.kind, MultiLabel):
                labels = labels[:, 0].to(torch.long if task.classes else torch.float)
            _torchmetrics_value(name, task, outputs, labels)


def _torchmetrics_value(path: str, task: Task, outputs: Tensor, labels: Tensor) -> Tensor:
    cls = metric_class(path)
    size = task.kind.output_size
    sizes = {"num_classes": size} if task.classes else {}
    sizes |= {"num_labels": size} if isinstance(task.kind, MultiLabel) else {}
    known = signature(cls.__init__).parameters
    try:
        metric: Any = cls(**{name: value for name, value in sizes.items() if name in known})
        if task.range:
            value = metric(outputs[:, 0].double(), labels.double())
        elif isinstance(task.kind, MultiLabel):
            value = metric(outputs, labels.long())
        else:
            binary = cls.__name__.startswith("Binary") and size == 2
            value = metric(outputs[:, 1] if binary else outputs, labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"task {task.name!r}: metrics: {path} cannot be computed for a {task.kind.name} task: "
            f"{' '.join(str(error).split())}"
        ) from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise UserError(
            f"task {task.name!r}: metrics: {path} does not give a single number; choose another"
        )
    return torch.nan_to_num(value.detach().double().reshape(()))


def _accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    return torch.nan_to_num((outputs.argmax(1) == labels).double().mean())


def _f1(outputs: Tensor, labels: Tensor) -> Tensor:
    predicted, classes = outputs.argmax(1), outputs.shape[1]
    if classes == 2:
        return torch.nan_to_num(classification.binary_f1_score(predicted, labels))
    return _f1_average(outputs, labels, "macro")


def _f1_average(outputs: Tensor, labels: Tensor, average: Any) -> Tensor:
    predicted, classes = outputs.argmax(1), outputs.shape[1]
    score = classification.multiclass_f1_score(predicted, labels, classes, average=average)
    return torch.nan_to_num(score)


def _balanced_accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean recall of the classes that have examples."""
    counts = labels.bincount(minlength=outputs.shape[1]).double()
    correct = labels[outputs.argmax(1) == labels].bincount(minlength=outputs.shape[1]).double()
    return torch.nan_to_num((correct[counts > 0] / counts[counts > 0]).mean())


def _auroc(outputs: Tensor, labels: Tensor) -> Tensor:
    """Of the second of two classes, else the mean over one class against the rest."""
    if outputs.shape[1] == 2:
        return _rank_auroc(outputs[:, 1:], labels[:, None] == 1)
    return _rank_auroc(outputs, labels[:, None] == torch.arange(outputs.shape[1]))


def _rank_auroc(scores: Tensor, positive: Tensor) -> Tensor:
    """The mean area over the columns that have positive and negative examples; 0 if none has.

    The area is the share of pairs of a positive and a negative example in which the positive one
    has the higher score; ties count half.
    """
    areas = []
    for column, present in zip(scores.double().T, positive.T, strict=True):
        if not present.any() or present.all():
            continue
        _, groups, sizes = column.unique(return_inverse=True, return_counts=True)
        ranks = (sizes.cumsum(0).double() - (sizes - 1) / 2)[groups]
        count = int(present.sum())
        above = ranks[present].sum() - count * (count + 1) / 2
        areas.append(above / (count * (len(present) - count)))
    return torch.stack(areas).mean() if areas else torch.zeros(())


def _average_precision(outputs: Tensor, labels: Tensor) -> Tensor:
    """The mean over the classes that have examples; 0 if none has."""
    precisions = [
        classification.binary_average_precision(column, present.long())
        for column, present in zip(outputs.T, labels.T, strict=True)
        if present.any()
    ]
    return torch.stack(precisions).mean() if precisions else torch.zeros(())


def _matthews(outputs: Tensor, labels: Tensor) -> Tensor:
    predicted = outputs.argmax(1)
    # torchmetrics returns a limit that depends on the labels: 0.0256 for one class on CoLA.
    if _is_constant(predicted) or _is_constant(labels):
        return torch.zeros(())
    score = classification.multiclass_matthews_corrcoef(predicted, labels, outputs.shape[1])
    return torch.nan_to_num(score)


def _quadratic_kappa(outputs: Tensor, labels: Tensor) -> Tensor:
    score = classification.multiclass_cohen_kappa(
        outputs.argmax(1), labels, outputs.shape[1], weights="quadratic"
    )
    return torch.nan_to_num(score)


def _correlation(coefficient: MetricFunction) -> MetricFunction:
    """A metric of values; `coefficient` gets values and targets, each of shape (examples,)."""

    def metric(outputs: Tensor, labels: Tensor) -> Tensor:
        values = outputs[:, 0].double()
        if _is_constant(values) or _is_constant(labels):
            return torch.zeros(())
        return coefficient(values, labels.double())

    return metric


def _kendall(values: Tensor, targets: Tensor) -> Tensor:
    """Kendall's tau-b."""
    from scipy.stats import kendalltau  # slow to import, and few tasks need it

    return torch.tensor(kendalltau(values.numpy(), targets.numpy()).statistic)


def _r2(outputs: Tensor, labels: Tensor) -> Tensor:
    """1 - squared error / squared deviation from the mean; 0 if all targets are equal."""
    if _is_constant(labels):
        return torch.zeros(())
    targets = labels.double()
    errors, deviations = targets - outputs[:, 0].double(), targets - targets.mean()
    return 1 - (errors**2).sum() / (deviations**2).sum()


def _absolute_error(outputs: Tensor, labels: Tensor) -> Tensor:
    return torch.nan_to_num((outputs[:, 0].double() - labels.double()).abs().mean())


def _root_squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    return torch.nan_to_num(((outputs[:, 0].double() - labels.double()) ** 2).mean().sqrt())


def _is_constant(values: Tensor) -> bool:
    """Whether all values are equal; also true if one of them is NaN, or there are none."""
    return len(values) == 0 or not bool(values.min() < values.max())


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient; 0 where it is undefined."""
    return torch.where(denominator > 0, numerator / denominator.clamp(min=1), 0.0)


def _label_f1(outputs: Tensor, labels: Tensor, dimension: int | None) -> Tensor:
    """F1 of the predicted classes: per class (0), per example (1), or of all together (None)."""
    predicted, true = (outputs >= THRESHOLD).double(), labels.double()
    if dimension is None:
        return _ratio(2 * (predicted * true).sum(), predicted.sum() + true.sum())
    correct = (predicted * true).sum(dimension)
    scores = _ratio(2 * correct, predicted.sum(dimension) + true.sum(dimension))
    return torch.nan_to_num(scores.mean())


def _subset_accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    same = (outputs >= THRESHOLD) == (labels > 0)
    return torch.nan_to_num(same.all(1).double().mean())


METRICS: dict[str, MetricFunction] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "f1_macro": partial(_f1_average, average="macro"),
    "f1_weighted": partial(_f1_average, average="weighted"),
    "balanced_accuracy": _balanced_accuracy,
    "auroc": _auroc,
    "matthews": _matthews,
    "quadratic_kappa": _quadratic_kappa,
    "pearson": _correlation(regression.pearson_corrcoef),
    "spearman": _correlation(regression.spearman_corrcoef),
    "kendall": _correlation(_kendall),
    "r2": _r2,
    "mae": _absolute_error,
    "rmse": _root_squared_error,
}
"""Metrics of classification and regression."""

MULTI_LABEL_METRICS: dict[str, MetricFunction] = {
    "f1_micro": partial(_label_f1, dimension=None),
    "f1_macro": partial(_label_f1, dimension=0),
    "f1_samples": partial(_label_f1, dimension=1),
    "subset_accuracy": _subset_accuracy,
    "auroc": lambda outputs, labels: _rank_auroc(outputs, labels > 0),
    "average_precision": _average_precision,
}
"""Metrics of multi-label tasks. F1 and average precision are 0 where they are undefined."""
