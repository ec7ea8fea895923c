"""Tasks: which data set to read, what to predict and how to score it."""

from mtl.tasks.classification import Classification
from mtl.tasks.fields import Prompt, Source, Splits
from mtl.tasks.kinds import Label, Prediction, TaskKind
from mtl.tasks.label_readers import LabelError, LabelReader
from mtl.tasks.regression import Regression
from mtl.tasks.task import Task, check_tasks

__all__ = [
    "Classification",
    "Label",
    "LabelError",
    "LabelReader",
    "Prediction",
    "Prompt",
    "Regression",
    "Source",
    "Splits",
    "Task",
    "TaskKind",
    "check_tasks",
]
