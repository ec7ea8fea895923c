"""Write predictions as JSON lines or CSV, to a file or to standard output."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, TextIO

from mtl.errors import UserError
from mtl.inference.engine import Outputs, output_rows
from mtl.inference.options import ENDINGS
from mtl.tasks import Task
from mtl.training.run_folder import atomic_output


class PredictionWriter(Protocol):
    """Writes predictions in one format."""

    def write(self, rows: Sequence[int], outputs: Mapping[str, Outputs]) -> None:
        """Writes the predictions for some rows of the input.

        Args:
            rows: Indices of the rows, counted from 0.
            outputs: For each task class probabilities, shape (rows, classes), or values, shape
                (rows, 1), or the outputs of words.
        """


class JsonLinesWriter:
    """Writes a JSON object per row: its index (`row`), and the record of each task by name.

    Args:
        file: File to write to.
        tasks: The tasks.
    """

    def __init__(self, file: TextIO, tasks: Sequence[Task]) -> None:
        self.file, self.tasks = file, tasks

    def write(self, rows: Sequence[int], outputs: Mapping[str, Outputs]) -> None:
        """Writes a line per row."""
        columns = [output_rows(outputs[task.name]) for task in self.tasks]
        for row, *values in zip(rows, *columns, strict=True):
            line: dict[str, object] = {"row": row}
            for task, outputs_of_row in zip(self.tasks, values, strict=True):
                line[task.name] = task.kind.record(outputs_of_row)
            self.file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.file.flush()  # a reader at the other end of a pipe gets complete windows


class CsvWriter:
    """Writes CSV with the column `row` (its index), and the columns of each task.

    Args:
        file: File to write to.
        tasks: The tasks.
    """

    def __init__(self, file: TextIO, tasks: Sequence[Task]) -> None:
        self.writer, self.tasks = csv.writer(file, lineterminator="\n"), tasks
        columns = [column for task in tasks for column in task.kind.csv_columns(task.name)]
        self.writer.writerow(["row", *columns])

    def write(self, rows: Sequence[int], outputs: Mapping[str, Outputs]) -> None:
        """Writes a line per row."""
        columns = [output_rows(outputs[task.name]) for task in self.tasks]
        for row, *values in zip(rows, *columns, strict=True):
            cells: list[object] = [row]
            for task, outputs_of_row in zip(self.tasks, values, strict=True):
                cells += task.kind.csv_cells(outputs_of_row)
            self.writer.writerow(cells)


# The writer for each file name extension.
WRITERS: dict[str, Callable[[TextIO, Sequence[Task]], PredictionWriter]] = dict(
    zip(ENDINGS, (JsonLinesWriter, CsvWriter), strict=True)
)


@contextmanager
def open_output(path: str | None, tasks: Sequence[Task]) -> Iterator[PredictionWriter]:
    """Context manager: a writer for a file or for standard output.

    A file appears under its name when it is complete.

    Args:
        path: A file with one of the extensions in `WRITERS`. If None, JSON lines are written to
            standard output.
        tasks: The tasks.

    Raises:
        UserError: If the file cannot be written.
    """
    if path is None:
        try:
            yield JsonLinesWriter(sys.stdout, tasks)
        except BrokenPipeError:  # the reader has closed the pipe, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    output = Path(path)
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(atomic_output(output))
            file = stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
        except OSError as error:
            raise UserError(
                f"--output {output}: cannot be written: {error.strerror}; choose a folder in which "
                "you can write"
            ) from error
        yield WRITERS[output.suffix](file, tasks)
