"""The progress of a comparison: a bar per run, and the time left over all of them."""

import time
from collections.abc import Mapping
from typing import Self

from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from mtl.compare.jobs import Job


class RunProgress:
    """Context manager: bars in a terminal; elsewhere a line for each run that ends.

    The bar of a run advances by the mean duration of the runs that have ended.

    Args:
        title: What is run.
        total: Number of runs.
        following: Number of runs that come after these; the time left includes them.
    """

    def __init__(self, title: str, total: int, following: int = 0) -> None:
        # Runs take minutes: estimate the speed from all finished runs, not from the last half
        # minute.
        # In a narrow terminal the names are shortened, never the times.
        name = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        self._progress = Progress(
            TextColumn("{task.description}", table_column=name),
            BarColumn(bar_width=10),
            TextColumn("{task.fields[count]}", table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
            TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
            expand=True,
            speed_estimate_period=7 * 86400,
        )
        self._total, self._following = total, following
        self._bar = self._progress.add_task(
            title + (f"; then {following} runs" if following else ""),
            total=total + following,
            count=f"0/{total}",
        )
        self._start = time.monotonic()
        self._finished_before: int | None = None
        self._bars: dict[str, tuple[TaskID, float]] = {}
        self._durations: list[float] = []

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, ended: int, running: Mapping[str, Job]) -> None:
        """Updates the bars.

        Args:
            ended: Number of runs that are finished or failed.
            running: The jobs of the runs that have started, by the runs' names.
        """
        now = time.monotonic()
        if self._finished_before is None:
            self._finished_before = ended  # by an earlier command
        self._progress.update(self._bar, completed=ended, count=f"{ended}/{self._total}")
        for name in [name for name in self._bars if name not in running]:
            bar, started = self._bars.pop(name)
            self._durations.append(now - started)
            self._progress.remove_task(bar)
        for name in running:
            if name not in self._bars:
                self._bars[name] = (self._progress.add_task(f"  {name}", total=None, count=""), now)
            bar, started = self._bars[name]
            if self._durations:
                mean = sum(self._durations) / len(self._durations)
                share = min(99, round(100 * (now - started) / mean)) if mean else 0
                self._progress.update(bar, total=100, completed=share)

    def line(self, ended: int, text: str, failed: bool) -> None:
        """Prints a line for a run that has ended; in a terminal only if it has failed."""
        if self._progress.console.is_terminal:
            if failed:
                self._progress.console.print(text, markup=False)
            return
        here = ended - (self._finished_before or 0)
        to_do = self._total + self._following - ended
        left = (time.monotonic() - self._start) / here * to_do if here else 0.0
        remaining = f"; about {duration(left)} left" if to_do else ""
        print(f"{ended}/{self._total} {text}{remaining}", flush=True)


def duration(seconds: float) -> str:
    """A duration in words: `40 s`, `12 min`, `3.5 h`.

    >>> duration(40), duration(700), duration(12600)
    ('40 s', '12 min', '3.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
