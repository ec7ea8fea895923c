"""A comparison at one of its sizes: the tasks, rows and columns that the size has."""

from dataclasses import replace
from pathlib import Path

from mtl.compare.definition import MEAN, Experiment
from mtl.compare.definition_parts import Published, Variant
from mtl.errors import UserError, reject_unknown


def size_task_files(experiment: Experiment, size: str) -> dict[str, Path]:
    """The files of the tasks that a size has, by task name.

    Raises:
        UserError: If the size does not fit the experiment.
    """
    tasks = experiment.sizes[size].tasks or list(experiment.task_files)
    reject_unknown("tasks", "task", tasks, experiment.task_files)
    for task, _ in experiment.suite_score.metrics if experiment.suite_score else ():
        if task not in tasks:
            raise UserError(f"size {size!r}: tasks: the suite's score needs {task!r}; add it")
    return {task: file for task, file in experiment.task_files.items() if task in tasks}


def restricted(experiment: Experiment, size: str) -> Experiment:
    """The comparison with the rows and columns that a size has.

    Raises:
        UserError: If the size does not fit the experiment.
    """
    absent = set(experiment.task_files) - set(size_task_files(experiment, size))
    columns = experiment.sizes[size].columns or [
        name for name, column in experiment.shown_columns.items() if column.task not in absent
    ]
    rows = {
        name: row for name, row in experiment.rows.items() if not row.sizes or size in row.sizes
    }
    published = _published(experiment, rows, columns)
    try:
        return replace(experiment, columns=columns, rows=rows, published=published)
    except UserError as error:  # a row of this size uses a row that the size does not have
        raise UserError(f"size {size!r}: {error}") from error


def _published(
    experiment: Experiment, rows: dict[str, Variant], columns: list[str]
) -> Published | None:
    """The published figures of these rows and columns; a mean over other columns is dropped."""
    if experiment.published is None:
        return None
    known = {*columns, MEAN} if columns == list(experiment.shown_columns) else set(columns)
    kept = {}
    for name, figures in experiment.published.rows.items():
        shown = {column: figure for column, figure in figures.items() if column in known}
        if name in rows and shown:
            kept[name] = shown
    return replace(experiment.published, rows=kept) if kept else None
