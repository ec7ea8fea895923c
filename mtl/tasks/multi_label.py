"""The kind of tasks that predict any number of several classes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl.tasks.kinds import Label, Prediction, TaskKind
from mtl.tasks.label_readers import LabelReader
from mtl.tasks.label_set_readers import ColumnsReader, LabelSetReader

# The probability from which a class is predicted.
THRESHOLD = 0.5


class MultiLabel(TaskKind):
    """Any number of several classes, each with a probability of its own.

    A label is a list with 0 or 1 for each class.

    Args:
        classes: Names of the classes.
        columns: Names of 0/1 columns, one for each class; None if one column holds the labels.
        separator: Separates the classes in a text.
    """

    name = "multi-label"
    metrics = (
        "f1_micro",
        "f1_macro",
        "f1_samples",
        "subset_accuracy",
        "auroc",
        "average_precision",
    )
    default_metrics = ("f1_micro", "f1_macro")
    losses = ("binary_cross_entropy", "focal")
    plot = "class_f1"
    label_dtype = np.float64
    missing_label = math.nan
    has_class_probabilities = False
    comparison_columns = ("labels", "predictions", "probabilities of both")
    value_range = None
    prompt_words = ()

    def __init__(
        self, classes: Sequence[str], columns: Sequence[str] | None = None, separator: str = ","
    ) -> None:
        self.classes = tuple(classes)
        self.columns, self.separator = columns and tuple(columns), separator
        self.output_names = self.label_space = self.classes

    @property
    def description(self) -> str:
        """The class names."""
        return f"any number of {', '.join(self.classes)}"

    def label_reader(self, aliases: Mapping[str, str]) -> LabelReader:
        """A reader of lists, 0/1 vectors or separated texts; or of a 0/1 column for each class."""
        if self.columns is not None:
            return ColumnsReader(self.columns)
        return LabelSetReader(self.classes, aliases, self.separator)

    def label_array(self, labels: Sequence[Label | None]) -> npt.NDArray[Any]:
        """One row for each example, shape (examples, classes)."""
        missing = [self.missing_label] * len(self.classes)
        rows = [missing if label is None else label for label in labels]
        return np.asarray(rows, self.label_dtype).reshape(-1, len(self.classes))

    def is_labelled(self, labels: Any) -> Any:
        """Missing labels are NaN for every class."""
        return labels[..., 0] == labels[..., 0]

    def k_shot_classes(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The rarest of each example's classes; -1 for an example without classes."""
        ranks = np.where(labels > 0, labels.sum(0), np.inf)
        return np.where((labels > 0).any(1), ranks.argmin(1), -1)

    def class_counts(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """One number for each class."""
        return (labels > 0).sum(0)

    def prediction(self, outputs: Sequence[Any]) -> Prediction:
        """The classes whose probability is at least 0.5, and all probabilities."""
        names = self.label_value(self.predicted_label(outputs))
        return Prediction(names, dict(zip(self.classes, outputs, strict=True)))

    def predicted_label(self, outputs: Sequence[Any]) -> list[float]:
        """1 for each class whose probability is at least 0.5."""
        return [float(output >= THRESHOLD) for output in outputs]

    def is_correct(
        self, outputs: npt.NDArray[Any], labels: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_]:
        """Whether exactly the classes of the label are predicted."""
        correct: npt.NDArray[np.bool_] = ((outputs >= THRESHOLD) == (labels > 0)).all(-1)
        return correct

    def comparison_cells(self, outputs: Sequence[Any], label: Label) -> list[str]:
        """The classes of the label, those predicted, and the probabilities of all of these."""
        predicted = self.predicted_label(outputs)
        either = [
            f"{name} {output:.3f}"
            for name, output, one, other in zip(
                self.classes, outputs, label, predicted, strict=True
            )
            if one or other
        ]
        names = [", ".join(self.label_value(each)) or "(none)" for each in (label, predicted)]
        return [*names, ", ".join(either)]

    def outputs(self, record: Mapping[str, Any]) -> list[float]:
        """The class probabilities."""
        return [record["probabilities"][name] for name in self.classes]

    def label_value(self, label: Label) -> list[str]:
        """The names of the classes."""
        return [name for name, present in zip(self.classes, label, strict=True) if present]

    def label(self, value: Any) -> list[float]:
        """1 for each class that is named."""
        return [float(name in value) for name in self.classes]

    def csv_columns(self, task: str) -> list[str]:
        """The predicted classes, then the probability of each class."""
        return [task, *(f"{task}.{name}" for name in self.classes)]

    def csv_cells(self, outputs: Sequence[Any]) -> list[str | float]:
        """One example's prediction, the classes separated as in the data."""
        names = self.prediction(outputs).value
        separator = self.separator if self.separator.strip() else ","
        return [f"{separator} ".join(names) if names else "", *outputs]
