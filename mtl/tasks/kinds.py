"""Task kinds: everything that depends on whether a task predicts a class or a number.

No torch here. The tensor side of a kind is looked up by name: its losses in
`mtl/modules/losses.py`, its metrics in `mtl/metrics.py`, its plot in
`mtl/callbacks/prediction_plots.py`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mtl.tasks.label_readers import ClassReader, LabelReader, TargetReader


class Prediction(NamedTuple):
    """The prediction for one example.

    Attributes:
        value: The most probable class, or the predicted number.
        probabilities: The probability of each class by name; None for a regression task.
    """

    value: str | float
    probabilities: dict[str, float] | None = None


class TaskKind(ABC):
    """What a task predicts.

    Attributes:
        name: The kind's name in messages.
        metrics: Names of the metrics that can be computed.
        default_metrics: The metrics of a task that names none.
        losses: Names of the losses that can be trained; the first is the default.
        plot: How predictions are drawn.
        label_dtype: Type of label arrays.
        missing_label: The value of a missing label in label arrays.
        has_class_probabilities: Whether outputs are class probabilities, which have an entropy.
        output_size: Number of outputs per example.
        prompt_words: The keys of a prompt's label words.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    default_metrics: ClassVar[tuple[str, ...]]
    losses: ClassVar[tuple[str, ...]]
    plot: ClassVar[Literal["confusion", "scatter"]]
    label_dtype: ClassVar[type[np.int64] | type[np.float64]]
    missing_label: ClassVar[int | float]
    has_class_probabilities: ClassVar[bool]
    output_size: int
    prompt_words: tuple[str, ...]

    @property
    @abstractmethod
    def description(self) -> str:
        """What is predicted, in a phrase."""

    @abstractmethod
    def label_reader(self, aliases: Mapping[str, str]) -> LabelReader:
        """A reader for one label column.

        Args:
            aliases: The class that a value of the column stands for (`source.labels`).
        """

    @abstractmethod
    def is_labelled(self, labels: Any) -> Any:
        """Which labels are present: a boolean array or tensor, like `labels`."""

    @abstractmethod
    def k_shot_classes(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The class of each label for k-shot sampling, shape (examples,)."""

    @abstractmethod
    def prediction(self, outputs: Sequence[float]) -> Prediction:
        """The prediction that one example's outputs stand for."""

    @abstractmethod
    def outputs(self, record: Mapping[str, Any]) -> list[float]:
        """One example's outputs from its record in a prediction file; the inverse of `record`."""

    @abstractmethod
    def label_value(self, label: int | float) -> str | float:
        """A label of a label array as it is written to files."""

    @abstractmethod
    def label(self, value: str | float) -> int | float:
        """A label of a label array from what `label_value` wrote."""

    @abstractmethod
    def csv_columns(self, task: str) -> list[str]:
        """Column names of a task's predictions in a CSV file."""

    def same_outputs(self, other: "TaskKind") -> bool:
        """Whether the classes and their order, or the ranges, are the same."""
        return type(self) is type(other) and vars(self) == vars(other)

    def record(self, outputs: Sequence[float]) -> dict[str, Any]:
        """One example's prediction as it is written to JSON."""
        prediction = self.prediction(outputs)
        record: dict[str, Any] = {"prediction": prediction.value}
        if prediction.probabilities is not None:
            record["probabilities"] = prediction.probabilities
        return record

    def csv_cells(self, outputs: Sequence[float]) -> list[str | float]:
        """One example's prediction as cells under `csv_columns`."""
        prediction = self.prediction(outputs)
        return [prediction.value, *(prediction.probabilities or {}).values()]


class Classification(TaskKind):
    """One of several classes.

    Args:
        classes: Names of the classes.
    """

    name = "classification"
    metrics = ("accuracy", "f1", "matthews")
    default_metrics = ("accuracy",)
    losses = ("cross_entropy", "ordinal", "binary", "cross_entropy_ordinal", "cross_entropy_binary")
    plot = "confusion"
    label_dtype = np.int64
    missing_label = -1
    has_class_probabilities = True

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.output_size = len(self.classes)
        self.prompt_words = self.classes

    @property
    def description(self) -> str:
        """The class names."""
        return f"one of {', '.join(self.classes)}"

    def label_reader(self, aliases: Mapping[str, str]) -> LabelReader:
        """A reader of class names or class indices."""
        return ClassReader(self.classes, aliases)

    def is_labelled(self, labels: Any) -> Any:
        """Class indices are 0 or more."""
        return labels >= 0

    def k_shot_classes(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The class indices."""
        return labels.astype(np.int64)

    def prediction(self, outputs: Sequence[float]) -> Prediction:
        """The most probable class; the first of several that are equally probable."""
        best = outputs.index(max(outputs))
        return Prediction(self.classes[best], dict(zip(self.classes, outputs, strict=True)))

    def outputs(self, record: Mapping[str, Any]) -> list[float]:
        """The class probabilities."""
        return [record["probabilities"][name] for name in self.classes]

    def label_value(self, label: int | float) -> str:
        """The class name."""
        return self.classes[int(label)]

    def label(self, value: str | float) -> int:
        """The class index."""
        return self.classes.index(str(value))

    def csv_columns(self, task: str) -> list[str]:
        """The predicted class, then the probability of each class."""
        return [task, *(f"{task}.{name}" for name in self.classes)]


class Regression(TaskKind):
    """A number within a range.

    Args:
        low: Lowest value.
        high: Highest value.
    """

    name = "regression"
    metrics = ("pearson", "spearman")
    default_metrics = ("pearson", "spearman")
    losses = ("squared_error", "cosine")
    plot = "scatter"
    label_dtype = np.float64
    missing_label = math.nan
    has_class_probabilities = False
    output_size = 1
    prompt_words = ("low", "high")

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

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

    def outputs(self, record: Mapping[str, Any]) -> list[float]:
        """The number."""
        return [record["prediction"]]

    def label_value(self, label: int | float) -> float:
        """The target."""
        return float(label)

    def label(self, value: str | float) -> float:
        """The target."""
        return float(value)

    def csv_columns(self, task: str) -> list[str]:
        """The predicted number."""
        return [task]
