"""Tasks: which data set to read, what to predict and how to score it."""

from mtl.tasks.classification import Classification
from mtl.tasks.fields import Prompt, Source, Splits
from mtl.tasks.kinds import Label, Prediction, TaskKind
from mtl.tasks.label_readers import LabelError, LabelReader
from mtl.tasks.multi_label import MultiLabel
from mtl.tasks.multiple_choice import MultipleChoice
from mtl.tasks.regression import Regression
from mtl.tasks.task import Task
from mtl.tasks.task_lists import TaskGroup, check_tasks, each_task, read_task_or_group
from mtl.tasks.token_labels import TokenLabels, WordTags

__all__ = [
    "Classification",
    "Label",
    "LabelError",
    "LabelReader",
    "MultiLabel",
    "MultipleChoice",
    "Prediction",
    "Prompt",
    "Regression",
    "Source",
    "Splits",
    "Task",
    "TaskGroup",
    "TaskKind",
    "TokenLabels",
    "WordTags",
    "check_tasks",
    "each_task",
    "read_task_or_group",
]
