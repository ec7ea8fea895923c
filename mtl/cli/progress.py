"""The progress of reading a file, on standard error."""

import sys
import time
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class ReadProgress(Protocol):
    """The size of a file and the amount read so far, in any unit."""

    @property
    def total(self) -> int | None:
        """The size; None if it is not known."""

    def done(self) -> int:
        """The amount read so far."""


class ProgressReporter:
    """Context manager: report progress on standard error, as a bar and a line at the end.

    The bar is shown in a terminal only.

    Args:
        progress: The file's progress.
        bar: Whether to show a bar; it would interfere with results printed to the same terminal.
    """

    def __init__(self, progress: ReadProgress, bar: bool) -> None:
        console = Console(stderr=True)
        self.progress, self.count, self.start = progress, 0, time.perf_counter()
        columns = (
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
        )
        # Standard output is for the results: rich would redirect it to the bar's console.
        self.bar = Progress(
            *columns,
            console=console,
            disable=not (bar and console.is_terminal),
            transient=True,
            redirect_stdout=False,
        )
        self.task = self.bar.add_task("", total=progress.total)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.bar.stop()
        if kind is None:
            sys.stderr.write(f"{self._status()} in {time.perf_counter() - self.start:.1f} s\n")

    def advance(self, count: int) -> None:
        """Adds to the number of rows that are processed."""
        self.count += count
        self.bar.update(self.task, completed=self.progress.done(), description=self._status())

    def print(self, message: str) -> None:
        """Prints a message without interrupting the bar."""
        self.bar.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def _status(self) -> str:
        rate = self.count / (time.perf_counter() - self.start)
        return f"{self.count:,} row{'s' * (self.count != 1)}, {rate:,.0f} rows/s"
