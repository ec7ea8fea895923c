"""The kind of tasks that predict a number."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl.tasks.kinds import Label, Prediction, TaskKind
from mtl.tasks.label_readers import LabelReader, TargetReader


class Regression(TaskKind):
    """A number within a range.

    Args:
        low: Lowest value.
        high: Highest value.
    """

    name = "regression"
    metrics = ("pearson", "spearman", "kendall", "r2", "mae", "rmse")
    default_metrics = ("pearson", "spearman")
    metrics_of_varied_labels = ("pearson", "spearman", "kendall", "r2")
    losses = ("squared_error", "cosine")
    plot = "scatter"
    label_dtype = np.float64
    missing_label = math.nan
    has_class_probabilities = False
    comparison_columns = ("target", "prediction", "difference")
    output_names = ("value",)
    prompt_words = ("low", "high")

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.label_space = self.value_range = (low, high)

    @property
    def description(self) -> str:
        """The range."""
        return f"a number from {self.low:g} to {self.high:g}"

    def label_reader(self, aliases: Mapping[str, str]) -> LabelReader:
        """A reader of numbers within the range."""
        return TargetReader(self.low, self.high)

    def is_labelled(self, labels: Any) -> Any:
        """Missing targets are NaN, the one value that differs from itself."""
        return labels == labels

    def k_shot_classes(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """0 below the middle of the range, 1 from there on."""
        return (labels >= (self.low + self.high) / 2).astype(np.int64)

    def prediction(self, outputs: Sequence[float]) -> Prediction:
        """The number."""
        return Prediction(outputs[0])

    def predicted_label(self, outputs: Sequence[float]) -> float:
        """The number, clamped to the range."""
        return min(max(outputs[0], self.low), self.high)

    def comparison_cells(self, outputs: Sequence[float], label: Label) -> list[str]:
        """Target, prediction, and prediction minus target."""
        return [f"{label:g}", f"{outputs[0]:.2f}", f"{outputs[0] - label:+.2f}"]

    def outputs(self, record: Mapping[str, Any]) -> list[float]:
        """The number."""
        return [record["prediction"]]

    def label_value(self, label: Label) -> float:
        """The target."""
        return float(label)

    def label(self, value: Any) -> float:
        """The target."""
        return float(value)

    def csv_columns(self, task: str) -> list[str]:
        """The predicted number."""
        return [task]
