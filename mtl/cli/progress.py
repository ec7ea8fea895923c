"""How far a long reading is, on standard error."""

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from mtl.inference.inputs import Input


class ProgressReporter:
    """How far the rows are, on standard error: a bar in a terminal, and a line at the end.

    Args:
        rows: The input.
        bar: Whether to show a bar, which would disturb rows in the same terminal.
    """

    def __init__(self, rows: Input, bar: bool) -> None:
        console = Console(stderr=True)
        self.rows, self.count, self.since = rows, 0, time.perf_counter()
        shown = (
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
        )
        # Standard output is the rows' own: rich would send it where the bar is.
        self.bar = Progress(
            *shown,
            console=console,
            disable=not (bar and console.is_terminal),
            transient=True,
            redirect_stdout=False,
        )
        self.task = self.bar.add_task("", total=rows.total)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.bar.stop()
        if kind is None:
            sys.stderr.write(f"{self._said()} in {time.perf_counter() - self.since:.1f} s\n")

    def done(self, count: int) -> None:
        """More rows are done."""
        self.count += count
        self.bar.update(self.task, completed=self.rows.done(), description=self._said())

    def say(self, message: str) -> None:
        """A message beside the bar."""
        self.bar.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def _said(self) -> str:
        return f"{self.count:,} row{'s' * (self.count != 1)}, {self.count / (time.perf_counter() - self.since):,.0f} rows/s"
