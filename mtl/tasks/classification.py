"""The kind of tasks that predict one of several classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl.tasks.kinds import Label, Prediction, TaskKind
from mtl.tasks.label_readers import ClassReader, LabelReader


class Classification(TaskKind):
    """One of several classes.

    Args:
        classes: Names of the classes.
    """

    name = "classification"
    metrics = (
        "accuracy",
        "f1",
        "f1_macro",
        "f1_weighted",
        "balanced_accuracy",
        "auroc",
        "matthews",
        "quadratic_kappa",
    )
    default_metrics = ("accuracy",)
    metrics_of_varied_labels = ("f1", "f1_macro", "auroc", "matthews", "quadratic_kappa")
    losses = (
        "cross_entropy",
        "focal",
        "ordinal",
        "binary",
        "cross_entropy_ordinal",
        "cross_entropy_binary",
    )
    plot = "confusion"
    label_dtype = np.int64
    missing_label = -1
    has_class_probabilities = True
    comparison_columns = (
        "label",
        "prediction",
        "probability of prediction",
        "probability of label",
    )
    value_range = None

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.output_names = self.label_space = self.prompt_words = self.classes

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

    def class_counts(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """One number for each class."""
        return np.bincount(labels, minlength=len(self.classes))

    def prediction(self, outputs: Sequence[float]) -> Prediction:
        """The most probable class, and the probabilities."""
        best = self.classes[self.predicted_label(outputs)]
        return Prediction(best, dict(zip(self.classes, outputs, strict=True)))

    def predicted_label(self, outputs: Sequence[float]) -> int:
        """Index of the most probable class; the first of several that are equally probable."""
        return outputs.index(max(outputs))

    def is_correct(
        self, outputs: npt.NDArray[Any], labels: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_]:
        """Whether the most probable class is the label."""
        correct: npt.NDArray[np.bool_] = outputs.argmax(-1) == labels
        return correct

    def comparison_cells(self, outputs: Sequence[float], label: Label) -> list[str]:
        """Both class names and their probabilities."""
        classes = (int(label), self.predicted_label(outputs))
        names = [self.classes[index] for index in classes]
        return [*names, *(f"{outputs[index]:.3f}" for index in reversed(classes))]

    def outputs(self, record: Mapping[str, Any]) -> list[float]:
        """The class probabilities."""
        return [record["probabilities"][name] for name in self.classes]

    def label_value(self, label: Label) -> str:
        """The class name."""
        return self.classes[int(label)]

    def label(self, value: Any) -> int:
        """The class index."""
        return self.classes.index(str(value))

    def confidence(self, outputs: Sequence[float]) -> float:
        """The probability of the most probable class."""
        return max(outputs)

    def csv_columns(self, task: str) -> list[str]:
        """The predicted class, its probability, then the probability of each class."""
        return [task, f"{task} confidence", *(f"{task}.{name}" for name in self.classes)]

    def csv_cells(self, outputs: Sequence[float]) -> list[str | float]:
        """One example's prediction as cells under `csv_columns`."""
        return [self.prediction(outputs).value, self.confidence(outputs), *outputs]
