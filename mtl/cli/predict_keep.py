"""The columns of an input that are written next to its predictions: `mtl predict --keep`."""

from collections.abc import Sequence

from mtl.errors import UserError, reject_unknown
from mtl.tasks import Task

ALL = "all"


def kept_columns(
    options: Sequence[Sequence[str]], available: Sequence[str], tasks: Sequence[Task]
) -> list[str]:
    """Returns the columns to keep, in the order of the input.

    Args:
        options: The values of `--keep`: names of columns, or `all`.
        available: The input's columns.
        tasks: The tasks that are predicted.

    Raises:
        UserError: If the input has no such column, or the output has another column of that name.
    """
    names = [name for option in options for name in option]
    if ALL in names and ALL not in available:
        names = list(available)
    reject_unknown("--keep", "column", names, available)
    taken = {"row": "the index of the row"}
    for task in tasks:
        columns = dict.fromkeys([task.name, *task.kind.csv_columns(task.name)])
        taken |= dict.fromkeys(columns, f"the predictions of task {task.name!r}")
    for name in names:
        if name in taken:
            raise UserError(
                f"--keep {name}: the output has a column of that name, {taken[name]}; rename the "
                "column in the input, or name only other columns"
            )
    return [name for name in available if name in names]
