"""Tasks: data sets with a question, read from YAML."""

from mtl.tasks.kinds import Classification, Prediction, Regression, TaskKind
from mtl.tasks.task import Prompt, Source, Splits, Task, check_tasks

__all__ = [
    "Classification",
    "Prediction",
    "Prompt",
    "Regression",
    "Source",
    "Splits",
    "Task",
    "TaskKind",
    "check_tasks",
]
