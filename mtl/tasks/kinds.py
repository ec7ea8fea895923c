"""Task kinds: everything that depends on whether a task predicts a class or a number.

Each kind is a file: `classification.py`, `regression.py`. No torch here. The tensor side of a kind
is looked up by name: its losses in `mtl/modules/task_losses.py`, its metrics in `mtl/metrics.py`,
its plot in `mtl/callbacks/prediction_plots.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mtl.tasks.label_readers import LabelReader

# Metrics of which smaller values are better; a task's score does not contain them.
ERRORS = frozenset({"mae", "rmse"})


class Prediction(NamedTuple):
    """The prediction for one example.

    Attributes:
        value: The most probable class, the predicted number, or a list of predictions.
        probabilities: The probability of each class by name; None for a regression task.
    """

    value: Any
    probabilities: dict[str, float] | None = None


Label = Any
"""The label of one example as a reader returns it: a class index, a number, or a list of them."""


class TaskKind(ABC):
    """What a task predicts.

    Labels are kept in arrays of shape (examples,), or (examples, labels per example) if a label is
    a list. Missing labels are -1 in arrays of integers and NaN in arrays of numbers. In the loss,
    an example counts once if it has a label; a list of integers counts once for each entry that is
    not missing (`mtl.batch.loss_terms`).

    Attributes:
        name: The kind's name in messages.
        metrics: Names of the metrics that can be computed.
        default_metrics: The metrics of a task that names none.
        metrics_of_varied_labels: The metrics that are undefined if all labels are equal.
        losses: Names of the losses that can be trained; the first is the default.
        plot: How predictions are drawn.
        label_dtype: Type of label arrays.
        missing_label: The value of a missing label in label arrays.
        labels_words: Whether an example has a label for each of its words.
        has_class_probabilities: Whether outputs are class probabilities, which have an entropy.
        output_names: Name of each output, such as the class whose probability it is.
        label_space: The class names, or the lowest and the highest value.
        value_range: Lowest and highest value of a predicted number; None if no number is predicted.
        comparison_columns: Columns of a table that compares predictions with labels.
        prompt_words: The keys of a prompt's label words.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    default_metrics: ClassVar[tuple[str, ...]]
    metrics_of_varied_labels: ClassVar[tuple[str, ...]] = ()
    losses: ClassVar[tuple[str, ...]]
    plot: ClassVar[Literal["confusion", "scatter", "class_f1"]]
    label_dtype: ClassVar[type[np.int64] | type[np.float64]]
    missing_label: ClassVar[int | float]
    labels_words: ClassVar[bool] = False
    has_class_probabilities: ClassVar[bool]
    comparison_columns: ClassVar[tuple[str, ...]]
    value_range: tuple[float, float] | None
    output_names: tuple[str, ...]
    label_space: tuple[str, ...] | tuple[float, float]
    prompt_words: tuple[str, ...]

    @property
    def output_size(self) -> int:
        """Number of outputs per example."""
        return len(self.output_names)

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

    def label_array(self, labels: Sequence[Label | None]) -> npt.NDArray[Any]:
        """The label array of several examples; None stands for a missing label."""
        present = (self.missing_label if label is None else label for label in labels)
        return np.asarray(list(present), self.label_dtype)

    @abstractmethod
    def is_labelled(self, labels: Any) -> Any:
        """Which examples have a label: a boolean array or tensor, shape (examples,)."""

    @abstractmethod
    def k_shot_classes(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The class of each label for k-shot sampling, shape (examples,)."""

    def class_counts(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64] | None:
        """The number of examples of each class; None if there are no classes."""
        return None

    @abstractmethod
    def prediction(self, outputs: Sequence[Any]) -> Prediction:
        """The prediction that one example's outputs stand for."""

    @abstractmethod
    def predicted_label(self, outputs: Sequence[Any]) -> Label:
        """The label of a label array that is nearest to one example's outputs."""

    def is_correct(
        self, outputs: npt.NDArray[Any], labels: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_] | None:
        """Whether all that is predicted for each example is right; None if a number is predicted.

        Args:
            outputs: The outputs of labelled examples, shape (examples, ...).
            labels: Their label array.
        """
        return None

    @abstractmethod
    def comparison_cells(self, outputs: Sequence[Any], label: Label) -> list[str]:
        """One example's outputs and its label of a label array, under `comparison_columns`."""

    @abstractmethod
    def outputs(self, record: Mapping[str, Any]) -> list[Any]:
        """One example's outputs from its record in a prediction file; the inverse of `record`."""

    @abstractmethod
    def label_value(self, label: Label) -> Any:
        """A label of a label array as it is written to files."""

    @abstractmethod
    def label(self, value: Any) -> Label:
        """A label of a label array from what `label_value` wrote."""

    def confidence(self, outputs: Sequence[Any]) -> float | None:
        """The probability of one example's prediction; None if it is no single class."""
        return None

    @abstractmethod
    def csv_columns(self, task: str) -> list[str]:
        """Column names of a task's predictions in a CSV file."""

    def same_outputs(self, other: "TaskKind") -> bool:
        """Whether the classes and their order, or the ranges, are the same."""
        return type(self) is type(other) and vars(self) == vars(other)

    def record(self, outputs: Sequence[Any]) -> dict[str, Any]:
        """One example's prediction as it is written to JSON."""
        prediction = self.prediction(outputs)
        record: dict[str, Any] = {"prediction": prediction.value}
        if prediction.probabilities is not None:
            record["probabilities"] = prediction.probabilities
        return record

    def csv_cells(self, outputs: Sequence[Any]) -> list[str | float]:
        """One example's prediction as cells under `csv_columns`."""
        prediction = self.prediction(outputs)
        return [prediction.value, *(prediction.probabilities or {}).values()]
