"""Write predictions as JSON lines, CSV or Parquet, to a file or to standard output."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

from mtl.errors import UserError
from mtl.inference.engine import Outputs, output_rows
from mtl.inference.layout import Layout
from mtl.inference.options import PARQUET
from mtl.inference.parquet_writer import ParquetWriter
from mtl.training.run_folder import atomic_output


class PredictionWriter(Protocol):
    """Writes predictions in one format."""

    def write(
        self,
        rows: Sequence[int],
        kept: Sequence[Mapping[str, Any]],
        outputs: Mapping[str, Outputs],
    ) -> None:
        """Writes the predictions for some rows of the input.

        Args:
            rows: Indices of the rows, counted from 0.
            kept: The columns of each row that are kept.
            outputs: For each task class probabilities, shape (rows, classes), or values, shape
                (rows, 1), or the outputs of words.
        """


class JsonLinesWriter:
    """Writes a JSON object per row: its index (`row`), and the record of each task by name.

    Args:
        file: File to write to.
        layout: What is written.
    """

    def __init__(self, file: TextIO, layout: Layout) -> None:
        self.file, self.layout = file, layout

    def write(
        self,
        rows: Sequence[int],
        kept: Sequence[Mapping[str, Any]],
        outputs: Mapping[str, Outputs],
    ) -> None:
        """Writes a line per row."""
        columns = [output_rows(outputs[task.name]) for task in self.layout.tasks]
        for row, inputs, *values in zip(rows, kept, *columns, strict=True):
            line: dict[str, object] = {"row": row, **inputs}
            for task, outputs_of_row in zip(self.layout.tasks, values, strict=True):
                empty = {"prediction": None} if self.layout.is_empty(task, outputs_of_row) else {}
                line[task.name] = task.kind.record(outputs_of_row) | empty
            self.file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        self.file.flush()  # a reader at the other end of a pipe gets complete windows


class CsvWriter:
    """Writes CSV with the column `row` (its index), the kept columns, and those of each task.

    Args:
        file: File to write to.
        layout: What is written.
    """

    def __init__(self, file: TextIO, layout: Layout) -> None:
        self.writer, self.layout = csv.writer(file, lineterminator="\n"), layout
        columns = [column for task in layout.tasks for column in task.kind.csv_columns(task.name)]
        self.writer.writerow(["row", *layout.kept, *columns])

    def write(
        self,
        rows: Sequence[int],
        kept: Sequence[Mapping[str, Any]],
        outputs: Mapping[str, Outputs],
    ) -> None:
        """Writes a line per row."""
        columns = [output_rows(outputs[task.name]) for task in self.layout.tasks]
        for row, inputs, *values in zip(rows, kept, *columns, strict=True):
            cells: list[object] = [row, *(_cell(inputs.get(name)) for name in self.layout.kept)]
            for task, outputs_of_row in zip(self.layout.tasks, values, strict=True):
                first, *others = task.kind.csv_cells(outputs_of_row)
                first = "" if self.layout.is_empty(task, outputs_of_row) else first
                cells += map(_rounded, (first, *others))
            self.writer.writerow(cells)


def _rounded(value: str | float) -> str | float:
    return round(value, 6) if isinstance(value, float) else value


def _cell(value: object) -> object:
    """A kept value; lists and objects of JSON lines stay JSON."""
    return (
        json.dumps(value, ensure_ascii=False, default=str)
        if isinstance(value, list | dict)
        else value
    )


# The writers of text files for their file name extensions.
WRITERS: dict[str, Callable[[TextIO, Layout], PredictionWriter]] = {
    ".jsonl": JsonLinesWriter,
    ".csv": CsvWriter,
}


@contextmanager
def open_output(path: str | None, layout: Layout) -> Iterator[PredictionWriter]:
    """Context manager: a writer for a file or for standard output.

    A file appears under its name when it is complete.

    Args:
        path: A file with one of the extensions in `ENDINGS`. If None, JSON lines are written to
            standard output.
        layout: What is written.

    Raises:
        UserError: If the file cannot be written.
    """
    if path is None:
        try:
            yield JsonLinesWriter(sys.stdout, layout)
        except BrokenPipeError:  # the reader has closed the pipe, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    output = Path(path)
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(atomic_output(output))
            writer: PredictionWriter
            if output.suffix == PARQUET:
                writer = stack.enter_context(ParquetWriter(temporary, layout))
            else:
                file = stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
                writer = WRITERS[output.suffix](file, layout)
        except OSError as error:
            raise UserError(
                f"--output {output}: cannot be written: {error.strerror}; choose a folder in which "
                "you can write"
            ) from error
        yield writer
