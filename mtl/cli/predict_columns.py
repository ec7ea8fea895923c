"""Which tasks an input can be predicted for, and the columns that they read."""

import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mtl.data.formats import Record, Unreadable
from mtl.data.text_faults import unusable_characters
from mtl.errors import UserError, reject_unknown
from mtl.inference.inputs import TEXT, Input
from mtl.inference.predictor import Predictor
from mtl.inference.texts import text_fault
from mtl.tasks import Task
from mtl.tasks.token_readers import joined_words


class TaskColumns(NamedTuple):
    """A task, and the columns of the input that hold its texts."""

    task: Task
    columns: tuple[str, ...]


class RowReader:
    """Reads the texts of a row.

    Args:
        tasks: The tasks to predict, with their columns.

    Attributes:
        columns: All columns that are read.
    """

    def __init__(self, tasks: Sequence[TaskColumns]) -> None:
        self.tasks = tasks
        self.columns = list(dict.fromkeys(column for each in tasks for column in each.columns))

    def positions(self) -> dict[str, tuple[int, ...]]:
        """For each task, the indices of its texts in what the reader returns."""
        return {each.task.name: tuple(map(self.columns.index, each.columns)) for each in self.tasks}

    def __call__(self, row: Record) -> tuple[str, ...] | Unreadable:
        """The texts of `columns`, or why the row cannot be used."""
        texts = {column: self._text(row, column) for column in self.columns if column in row}
        for column in self.columns:
            fault = text_fault(texts[column]) if column in row else "is missing"
            if fault:
                names = [each.task.name for each in self.tasks if column in each.columns]
                other = " (choose other tasks with --task)" if len(self.tasks) > 1 else ""
                return Unreadable(
                    f"column {column!r} {fault}; it is read by task {', '.join(names)}{other}"
                )
        return tuple(texts[column] for column in self.columns)

    def _text(self, row: Record, column: str) -> Any:
        """A text; a list of words is joined."""
        return joined_words(row[column])


def column_mapping(options: Sequence[Sequence[str]], predictor: Predictor) -> dict[str, str]:
    """Parses `--columns`.

    Args:
        options: The values of the option.
        predictor: The trained model.

    Returns:
        The input's name of a text column, by the task's name of it, or by `task.text` for that of
        one task.

    Raises:
        UserError: If a value is not of the form `text=column`, or no task has such a text column.
    """
    tasks = predictor.tasks.values()
    known = {column for task in tasks for column in task.text_columns}
    known |= {f"{task.name}.{column}" for task in tasks for column in task.text_columns}
    mapping = {}
    for value in (value for option in options for value in option):
        text, equals, column = value.partition("=")
        if not equals or not column:
            raise UserError(
                f"--columns {value}: write the task's text column, =, and the input's column, "
                "such as sentence=review"
            )
        if text not in known and column in known:
            raise UserError(
                f"--columns {value}: the task's text column comes first. "
                f"Did you mean '{column}={text}'?"
            )
        reject_unknown(f"--columns {value}", "text column", [text], sorted(known))
        mapping[text] = column
    return mapping


def columns_of(source: Input, window: Sequence[tuple[int, Record | Unreadable]]) -> list[str]:
    """Returns the columns that at least half of the readable first rows have.

    They decide which tasks are predicted.

    Raises:
        UserError: If there are no rows, none of the first rows can be read, or a name is not text.
    """
    readable = [row for _, row in window if not isinstance(row, Unreadable)]
    if readable:
        counts = Counter(name for row in readable for name in row)
        if fault := next(filter(None, map(unusable_characters, counts)), None):
            raise UserError(f"{source.where}: the name of a column {fault}")
        return [name for name, count in counts.items() if 2 * count >= len(readable)]
    if window and isinstance(window[0][1], Unreadable):
        raise UserError(
            f"{source.where}: none of the first {len(window)} rows can be read; the first: "
            f"{window[0][1].reason}"
        )
    raise UserError(
        f"{source.where}: the input has no rows; a file with columns begins with a line of "
        "their names"
    )


def tasks_to_predict(
    predictor: Predictor,
    names: Sequence[str],
    source: Input,
    available: Sequence[str],
    mapping: Mapping[str, str],
) -> list[TaskColumns]:
    """Returns the tasks to predict with their columns; tasks without columns are reported.

    Args:
        predictor: The trained model.
        names: The tasks that the user named; if empty, all tasks whose columns are available.
        source: The input.
        available: Its columns.
        mapping: The input's name of a text column, by the task's name of it.

    Raises:
        UserError: If a named task, or every task, lacks a column.
    """
    tasks: list[TaskColumns] = []
    lacking: dict[str, list[Task]] = {}  # the tasks by what the input lacks
    for task in [predictor.task(name) for name in dict.fromkeys(names)] or predictor.tasks.values():
        columns: tuple[str, ...] = (TEXT,)
        missing = ["second text per line"] if len(task.text_columns) > 1 else []
        if source.format != "text":
            columns = tuple(
                _column(task, column, available, mapping) for column in task.text_columns
            )
            missing = [f"column {column!r}" for column in columns if column not in available]
        if missing:
            lacking.setdefault(missing[0], []).append(task)
        else:
            tasks.append(TaskColumns(task, columns))
    reasons = [
        f"task {', '.join(task.name for task in each)}: {source.where} has no {what}"
        for what, each in lacking.items()
    ]
    if reasons and (names or not tasks):
        message = "; ".join(reasons)
        if source.format != "text":
            remedy = _remedy(available, next(iter(lacking.values()))[0])
            message += f". Its columns are {', '.join(map(repr, available))}; {remedy}"
        raise UserError(message)
    for reason in reasons:
        sys.stderr.write(f"not predicted: {reason}\n")
    return tasks


def _remedy(available: Sequence[str], task: Task) -> str:
    """How to make the text columns of a task available."""
    for separator, noun, option in (
        (";", "semicolons", ""),
        ("\t", "tabs", ", or give --format tsv"),
    ):
        if len(available) == 1 and separator in available[0]:
            return f"they are separated by {noun}: save the file with commas{option}"
    return f"name the column of a text, such as --columns {shlex.quote(f'{task.texts[0]}=COLUMN')}"


def _column(task: Task, column: str, available: Sequence[str], mapping: Mapping[str, str]) -> str:
    """The input's name of a text column: from `--columns`, as in the task, or as in its source."""
    for name in (f"{task.name}.{column}", column):
        if name in mapping:
            return mapping[name]
    in_source = task.source.columns.get(column, column)
    return in_source if column not in available and in_source in available else column
