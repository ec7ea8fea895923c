"""The runs of a table at a size, and the command of each."""

import json
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Self

from experiments.table import CONFIGS, MEAN, Published, Row, Table
from mtl.errors import UserError, did_you_mean
from mtl.tasks import Task


class Run(NamedTuple):
    """A run of a table.

    Attributes:
        row: Its row.
        seed: Its seed.
        task: Its task, or the one held out; None where it is of the suite.
        choice: What it takes of the grid.
    """

    row: str
    seed: int
    task: str | None
    choice: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        parts = [
            self.row,
            f"seed {self.seed}",
            self.task or "",
            *(f"{option} {value}" for option, value in self.choice),
        ]
        return ", ".join(filter(None, parts))


class Plan:
    """The runs of a table at a size.

    Args:
        table: The table.
        size: The size's name.
        seeds: Seeds; those of the size where empty.
        options: Options of every run that come last, as words of the command.
    """

    def __init__(
        self, table: Table, size: str, seeds: tuple[int, ...] = (), options: tuple[str, ...] = ()
    ) -> None:
        if size not in table.sizes:
            raise UserError(f"there is no size {size!r}; sizes are {', '.join(table.sizes)}")
        self.name, self.size, self.more = size, table.sizes[size], options
        rows = {name: row for name, row in table.rows.items() if not row.sizes or size in row.sizes}
        self.files = self._files(table)
        absent = set(table.task_files) - set(self.files)
        columns = self.size.columns or [
            column for column, (task, _) in table.shown.items() if task not in absent
        ]
        try:
            self.table = replace(
                table, columns=columns, rows=rows, published=_published(table, rows, columns)
            )
        except ValueError as error:  # a row that others need is not of this size
            raise UserError(f"size {size!r}: {error}") from error
        self.seeds = seeds or tuple(self.size.seeds)
        if len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds {list(self.seeds)}: each once")
        if unknown := [task for task in self.table.tasks if task not in self.files]:
            raise UserError(
                f"columns: {unknown[0]!r} is not in the suite {table.suite!r}.{did_you_mean(unknown[0], self.files)}"
            )
        for column, (task, metric) in self.table.shown.items():
            if metric is not None and metric not in (
                metrics := Task.read(self.files[task]).metrics
            ):
                raise UserError(
                    f"columns: {column}: the task's metrics are {', '.join(metrics)}.{did_you_mean(metric, metrics)}"
                )

    def _files(self, table: Table) -> dict[str, Path]:
        """The files of the tasks that the size has."""
        wanted = self.size.tasks or list(table.task_files)
        if unknown := [task for task in wanted if task not in table.task_files]:
            raise UserError(
                f"tasks: {unknown[0]!r} is not in the suite {table.suite!r}.{did_you_mean(unknown[0], table.task_files)}"
            )
        if table.score and (
            missing := [task for task, _ in table.score.metrics if task not in wanted]
        ):
            raise UserError(
                f"size {self.name!r}: tasks: the suite's score is of {missing[0]!r} too"
            )
        return {task: file for task, file in table.task_files.items() if task in wanted}

    def with_row(self, name: str, row: Row) -> Self:
        """The plan with another row in the place of one."""
        changed = copy(self)
        changed.table = replace(self.table, rows=self.table.rows | {name: row})
        return changed

    def runs(self, row: str) -> Iterator[Run]:
        """All runs of a row, those of its grid included."""
        spec = self.table.rows[row]
        tasks = [None] if spec.of == "suite" else list(self.table.tasks)
        seeds = self.seeds if spec.seed is None else [spec.seed]
        grid = {
            option: self.size.values[found[1:-1]] if isinstance(found, str) else found
            for option, found in spec.grid.items()
        }
        choices = [tuple(zip(grid, values, strict=True)) for values in product(*grid.values())]
        for seed, task, choice in product(seeds, tasks, choices):
            yield Run(row, seed, task, choice)

    def every(self) -> list[Run]:
        """The runs of all rows, each after those that it uses."""
        return [run for row in self.table.rows for run in self.runs(row)]

    def used(self, run: Run) -> dict[str, list[Run]]:
        """For each option that names another run the candidates: several where that row has a grid."""
        found = {}
        for option, row in self.table.rows[run.row].uses.items():
            spec = self.table.rows[row]
            found[option] = [
                other
                for other in self.runs(row)
                if other.seed == (run.seed if spec.seed is None else spec.seed)
                and other.task in (None, run.task)
            ]
        return found

    def needs(self, run: Run) -> list[Run]:
        """The runs that one uses."""
        return [other for used in self.used(run).values() for other in used]

    def all_needs(self, run: Run) -> list[Run]:
        """Those, and what they use in turn, each after what it uses."""
        found: list[Run] = []
        for need in self.needs(run):
            found += [other for other in (*self.all_needs(need), need) if other not in found]
        return found

    def words(self, run: Run, folders: dict[str, str]) -> list[str]:
        """Options of the run's command.

        Args:
            run: The run.
            folders: For each option that names another run that one's folder.
        """
        spec = self.table.rows[run.row]
        tasks = [run.task] if spec.of == "task" and run.task else spec.tasks or list(self.files)
        words = [f"--tasks+={self.files[task]}" for task in tasks]
        words += ["--backbone", self.size.backbone]
        for config in spec.configs:
            words += ["-c", str(CONFIGS / f"{config}.yaml")]
        for options in (self.size.options, spec.options, dict(run.choice), folders):
            for name, value in options.items():
                if isinstance(value, dict) and set(value) <= set(self.table.task_files):
                    value = {task: of for task, of in value.items() if task in tasks}
                words += [
                    f"--{name}",
                    word_of(value, {"seed": run.seed, "task": run.task, **self.size.values}),
                ]
        if (
            spec.of == "suite"
            and not spec.tasks
            and spec.command == "fit"
            and (score := self.table.score)
        ):
            words += ["--score", score.text]
        if (
            spec.of == "task"
            and run.task
            and spec.command == "fit"
            and "." in (column := self.table.tasks[run.task])
        ):
            words += ["--score", column]
        return [*words, "--seed_everything", str(run.seed), *self.more]


def _published(table: Table, rows: dict[str, Row], columns: list[str]) -> Published | None:
    """Of the published numbers those of the rows and columns that there are; a mean over other columns is none of them."""
    if table.published is None:
        return None
    known = {*columns, MEAN} if columns == list(table.shown) else set(columns)
    found = {
        name: figures
        for name, of in table.published.rows.items()
        if name in rows
        and (figures := {column: figure for column, figure in of.items() if column in known})
    }
    return replace(table.published, rows=found) if found else None


def word_of(value: Any, values: dict[str, Any]) -> str:
    """An option's value as a word of the command.

    Args:
        value: The value.
        values: What is filled in for names in braces.
    """
    if isinstance(value, str) and value[:1] == "{" and value[1:-1] in values:
        value = values[value[1:-1]]
    if not isinstance(value, str):
        return json.dumps(value)
    for name, filled in values.items():
        value = value.replace(f"{{{name}}}", str(filled))
    return value
