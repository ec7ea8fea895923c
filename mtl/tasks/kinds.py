"""Task kinds: everything that depends on whether a task predicts a class or a number.

Nothing here needs torch. The tensor side of a kind is looked up by name: its losses in `mtl/modules/losses.py`, its
metrics in `mtl/metrics.py`, its plot in `mtl/callbacks/prediction_plots.py`.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mtl.errors import did_you_mean, shorten

# Values that mean "no label" unless the task declares them as a class or maps them in `source.labels`.
MISSING = ("", "-", "None")
# Plain ASCII numbers only: Python's `float` also reads "1_0", full-width digits and "nan".
CLASS_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
TARGET_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class LabelError(ValueError):
    """A value of a label column cannot be read.

    Attributes:
        unknown: The value as shown, if it is not one of the task's classes; empty for other faults.
    """

    def __init__(self, message: str, unknown: str = "") -> None:
        super().__init__(message)
        self.unknown = unknown


class Prediction(NamedTuple):
    """The prediction for one example.

    Attributes:
        value: The most probable class, or the predicted number.
        probabilities: The probability of each class by name; None for a regression task.
    """

    value: str | float
    probabilities: dict[str, float] | None = None


class LabelReader(ABC):
    """Reads the values of one label column. Make one reader per column: it interprets all values alike."""

    @abstractmethod
    def __call__(self, value: Any) -> int | float | None:
        """The class index or target; None if the value means that the example has no label.

        Raises:
            LabelError: If the value cannot be read.
        """


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

    @abstractmethod
    def same_outputs(self, other: "TaskKind") -> bool:
        """Whether two kinds have the same outputs in the same order."""

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

    def same_outputs(self, other: TaskKind) -> bool:
        """Whether the class names are the same, in the same order."""
        return isinstance(other, Classification) and self.classes == other.classes


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

    def same_outputs(self, other: TaskKind) -> bool:
        """Whether the ranges are the same."""
        return isinstance(other, Regression) and (self.low, self.high) == (other.low, other.high)


class ClassReader(LabelReader):
    """Reads class labels: names (as text, or as the same number), or indices counted from 0.

    A column holds either names or indices. If a class name is a number, the column holds names.

    Args:
        classes: Names of the classes.
        aliases: The class that a value stands for.
    """

    def __init__(self, classes: Sequence[str], aliases: Mapping[str, str]) -> None:
        self.classes, self.aliases = classes, aliases
        self._by_name = {name: index for index, name in enumerate(classes)}
        self._by_truth = {
            name.lower(): index
            for index, name in enumerate(classes)
            if name.lower() in ("true", "false")
        }
        self._by_number = {
            float(name): index for index, name in enumerate(classes) if CLASS_NUMBER.fullmatch(name)
        }
        self._examples: dict[
            str, str
        ] = {}  # the first value read as a name, and the first read as an index

    def __call__(self, value: Any) -> int | None:
        """The class index; None if the example has no label."""
        if str(value) in self.aliases:
            return self._by_name[self.aliases[str(value)]]
        text = str(value).strip()
        if value is not None:
            if (index := self._named(value, text)) is not None:
                return self._consistent("name", text, index)
            number = float(text) if CLASS_NUMBER.fullmatch(text) else math.nan
            if not self._by_number and number.is_integer() and 0 <= number < len(self.classes):
                return self._consistent("index", text, int(number))
        if value is None or text in MISSING or text in ("-1", "-1.0"):
            return None
        hint = (
            did_you_mean(text, self.classes)
            or " Add it to the task's classes, or map it to one of them in source.labels."
        )
        raise LabelError(
            f"label {shorten(value)} is not one of the classes {list(self.classes)}.{hint}",
            shorten(value),
        )

    def _named(self, value: Any, text: str) -> int | None:
        if isinstance(value, bool):
            return self._by_truth.get(text.lower())
        if text in self._by_name:
            return self._by_name[text]
        if CLASS_NUMBER.fullmatch(text):
            return self._by_number.get(float(text))
        return self._by_truth.get(text.lower())

    def _consistent(self, reading: str, text: str, index: int) -> int:
        self._examples.setdefault(reading, text)
        if len(self._examples) > 1:
            name, number = self._examples["name"], self._examples["index"]
            raise LabelError(
                f"the label column mixes class names ({name!r}) and class indices ({number!r}); write names only, or map the "
                "other values in source.labels"
            )
        return index


class TargetReader(LabelReader):
    """Reads regression targets.

    Args:
        low: Lowest target.
        high: Highest target.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __call__(self, value: Any) -> float | None:
        """The target; None if the example has no label."""
        text = str(value).strip()
        if value is None or text in MISSING or (self.low > -1 and text in ("-1", "-1.0")):
            return None
        if isinstance(value, bool) or not (
            isinstance(value, int | float) or TARGET_NUMBER.fullmatch(text)
        ):
            raise LabelError(f"target {shorten(value)} is not a number")
        target = float(value)
        if not self.low <= target <= self.high:  # also false for NaN
            raise LabelError(
                f"target {value!r} is outside the task's range [{self.low:g}, {self.high:g}]"
            )
        return target
