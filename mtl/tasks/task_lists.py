"""Lists of tasks, as commands and checkpoints give them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mtl.errors import NO_TASKS, UserError
from mtl.tasks.task import Task


@dataclass(frozen=True)
class TaskGroup:
    """The tasks of one file.

    Args:
        tasks: The tasks.
    """

    tasks: list[Task]


def read_task_or_group(value: Any) -> Task | TaskGroup:
    """Reads a task, or the tasks of a file with several.

    Raises:
        UserError: If the file or a field cannot be used.
    """
    if isinstance(value, TaskGroup):
        return value
    if isinstance(value, dict) and isinstance(value.get("tasks"), list):
        return TaskGroup([Task.read(each) for each in value["tasks"]])
    tasks = Task.read_all(value)
    return tasks[0] if len(tasks) == 1 else TaskGroup(tasks)


def each_task(value: Any) -> list[Task]:
    """A task, or the tasks of a group."""
    read = read_task_or_group(value)
    return read.tasks if isinstance(read, TaskGroup) else [read]


def check_tasks(tasks: Sequence[Task | TaskGroup | dict[str, Any]]) -> list[Task]:
    """Reads a list of tasks and checks that it is not empty and that names differ.

    Args:
        tasks: Tasks, or mappings of their fields as a checkpoint holds them.

    Raises:
        UserError: If there is no task, or two names are equal, ignoring case.
    """
    read = [task for each in tasks for task in each_task(each)]
    if not read:
        raise UserError(NO_TASKS)
    names = [task.name.lower() for task in read]
    if repeated := sorted({task.name for task in read if names.count(task.name.lower()) > 1}):
        raise UserError(
            f"tasks: the name {repeated[0]!r} occurs twice; give every task its own name"
        )
    return read
