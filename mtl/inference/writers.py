"""Answers in a file or on standard output, as JSON-lines or CSV."""

import csv
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

from torch import Tensor

from mtl.errors import UserError
from mtl.inference.engine import Value, answers
from mtl.tasks import Task


class Output(Protocol):
    """Where answers go."""

    def write(self, rows: Sequence[int], outputs: Mapping[str, Tensor]) -> None:
        """Writes answers.

        Args:
            rows: The rows' numbers.
            outputs: For each task the rows' class probabilities, (rows, classes), or values, (rows, 1).
        """


class JsonLines:
    """A line for each row: its number and, by task, `prediction` and, of classes, `probabilities`.

    Args:
        file: Where to.
        tasks: The tasks.
    """

    def __init__(self, file: TextIO, tasks: Sequence[Task]) -> None:
        self.file, self.tasks = file, tasks

    def write(self, rows: Sequence[int], outputs: Mapping[str, Tensor]) -> None:
        """As in `Output`."""
        found = {task.name: answers(task, outputs[task.name]) for task in self.tasks}
        for place, row in enumerate(rows):
            line: dict[str, object] = {"row": row}
            for name, all_of_task in found.items():
                answer = all_of_task[place]
                if isinstance(answer, Value):
                    line[name] = {"prediction": answer.value}
                else:
                    line[name] = {"prediction": answer.label, "probabilities": answer.probabilities}
            self.file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.file.flush()  # whoever waits at the other end of a pipe gets them now


class Table:
    """CSV with the columns `row` and, for each task, its name (the class or value) and `<task>.<class>` (the probabilities).

    Args:
        file: Where to.
        tasks: The tasks.
    """

    def __init__(self, file: TextIO, tasks: Sequence[Task]) -> None:
        self.writer, self.tasks = csv.writer(file, lineterminator="\n"), tasks
        columns = [
            column
            for task in tasks
            for column in (task.name, *(f"{task.name}.{each}" for each in task.classes))
        ]
        self.writer.writerow(["row", *columns])

    def write(self, rows: Sequence[int], outputs: Mapping[str, Tensor]) -> None:
        """As in `Output`."""
        found = [answers(task, outputs[task.name]) for task in self.tasks]
        for row, *all_of_row in zip(rows, *found, strict=True):
            cells: list[object] = [row]
            for answer in all_of_row:
                cells += (
                    [answer.value]
                    if isinstance(answer, Value)
                    else [answer.label, *answer.probabilities.values()]
                )
            self.writer.writerow(cells)


# What an output's ending says.
KINDS: dict[str, type[JsonLines | Table]] = {".jsonl": JsonLines, ".csv": Table}


@contextmanager
def open_output(given: str | None, tasks: Sequence[Task]) -> Iterator[Output]:
    """Opens where answers go; a file is there when it is whole, or not at all.

    Args:
        given: A file with one of the endings of `KINDS`; standard output, as JSON-lines, where absent.
        tasks: The tasks.

    Raises:
        UserError: If the file cannot be written.
    """
    if given is None:
        try:
            yield JsonLines(sys.stdout, tasks)
        except BrokenPipeError:  # whoever read has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    path = Path(given)
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise UserError(
            f"--output {path}: cannot be written: {error.strerror}; give a file in a folder of yours"
        ) from error
    try:
        with file:
            yield KINDS[path.suffix](file, tasks)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
