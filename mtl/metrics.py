"""A task's official metrics over a whole split, with torchmetrics; and the mean score over tasks."""

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor
from torchmetrics.functional import classification, regression

from mtl.errors import UserError, did_you_mean
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
        correlations = {
            "pearson": regression.pearson_corrcoef,
            "spearman": regression.spearman_corrcoef,
        }
        varies = (
            len(labels) > 1
            and bool(values.min() < values.max())
            and bool(labels.min() < labels.max())
        )
        return {
            metric: float(correlations[metric](values, labels.double())) if varies else 0.0
            for metric in task.metrics
        }
    classes = outputs.argmax(1)
    count = len(task.classes)
    # Undefined for one class alone, torchmetrics gives a limit that depends on the labels: 0.0256 on all of CoLA's.
    varies = bool((classes != classes[0]).any()) and bool((labels != labels[0]).any())
    scores = {
        "accuracy": lambda: (classes == labels).double().mean(),
        "matthews": lambda: (
            classification.multiclass_matthews_corrcoef(classes, labels, count)
            if varies
            else torch.zeros(())
        ),
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


class Score:
    """A suite's own score: an expression in the metrics of its tasks.

    >>> score = Score("(sst.accuracy + (sts.pearson + 1) / 2) / 2")
    >>> score({"sst": {"accuracy": 0.5}, "sts": {"pearson": 0.8}})
    0.7

    Args:
        text: Sums, differences, products and quotients of numbers and of metrics, written `task.metric`, or
            `mnli/matched.accuracy` for one split of several.

    Raises:
        UserError: If it cannot be read as such.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.metrics: list[tuple[str, str]] = []
        try:
            self._tree = ast.parse(re.sub(_METRIC, self._named, text), mode="eval").body
        except SyntaxError as error:
            raise UserError(f"score {text!r}: cannot be read: {error.msg}") from error
        self._value(self._tree, [1.0] * len(self.metrics))

    def __call__(self, metrics: Mapping[str, Mapping[str, float]]) -> float:
        """The score of each split's metrics, by the split's name."""
        return self._value(self._tree, [metrics[task][metric] for task, metric in self.metrics])

    def check(self, there: Mapping[str, Sequence[str]]) -> None:
        """Refuses a score of what is not measured.

        Args:
            there: Names of the metrics of each split, by the split's name.

        Raises:
            UserError: If a task or a metric of it is not there.
        """
        for task, metric in self.metrics:
            if task not in there:
                raise UserError(
                    f"score {self.text!r}: {task!r} is none of {list(there)}.{did_you_mean(task, there)}"
                )
            if metric not in there[task]:
                raise UserError(
                    f"score {self.text!r}: {task!r} has the metrics {list(there[task])}, not {metric!r}"
                )

    def _named(self, found: re.Match[str]) -> str:
        self.metrics.append((found[1], found[2]))
        return f"metric[{len(self.metrics) - 1}]"

    def _value(self, node: ast.AST, values: list[float]) -> float:
        match node:
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](self._value(left, values), self._value(right, values))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._value(operand, values)
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Subscript(
                value=ast.Name(id="metric"), slice=ast.Constant(value=int() as place)
            ):
                return values[place]
        raise UserError(
            f"score {self.text!r}: write sums, products and quotients of numbers and of task.metric"
        )


_METRIC = r"([A-Za-z][\w/-]*)\.([a-z]\w*)"
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
