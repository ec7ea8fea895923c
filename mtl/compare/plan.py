"""The runs of a comparison at one size."""

from collections.abc import Collection, Iterator, Sequence
from copy import copy
from dataclasses import replace
from itertools import product
from typing import Any, Self

from mtl.compare.definition import Experiment
from mtl.compare.definition_fields import search_seed_refusal
from mtl.compare.run_spec import AND, Choice, RunSpec, listed_values
from mtl.compare.sizes import restricted, size_task_files
from mtl.compare.weightings import front_rows
from mtl.errors import UserError, reject_unknown
from mtl.tasks import Task


class Plan:
    """The runs of a comparison at one size.

    Args:
        experiment: The comparison.
        size: Name of the size.
        seeds: Seeds. Default: those of the size.
        options: Extra options of every run, as command-line arguments; they come last.

    Attributes:
        experiment: The comparison, restricted to the rows and columns of the size.
        task_files: Files of the tasks of the size, by task name.

    Raises:
        UserError: If the size does not fit the experiment.
    """

    def __init__(
        self,
        experiment: Experiment,
        size: str,
        seeds: tuple[int, ...] = (),
        options: tuple[str, ...] = (),
    ) -> None:
        reject_unknown("size", "size", [size], experiment.sizes)
        self.size_name, self.size, self.extra_options = size, experiment.sizes[size], options
        self.task_files = size_task_files(experiment, size)
        self.experiment = restricted(experiment, size)
        # The hidden rows of the front.
        self.weightings: list[str] = []
        if front := self.experiment.front:
            added = front_rows(front, self.experiment.rows, list(self.experiment.main_columns))
            self.weightings = list(added)
            self.experiment = replace(self.experiment, rows=self.experiment.rows | added)
        self.seeds = seeds or self._seeds(experiment)
        # Option values that a search has found, by row and task.
        self.tuned: dict[tuple[str, str | None], Choice] = {}
        # Option values that the search has tried, by row and task.
        self.tried: dict[tuple[str, str | None], list[Choice]] = {}
        # Number of seeds of each row decided at an earlier look.
        self.stopped: dict[str, int] = {}
        if len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds {list(self.seeds)}: give each seed once")
        if self.size.search and self.size.search.seed in self.seeds:
            raise UserError(f"search: {search_seed_refusal(self.size.search)}")
        reject_unknown("columns", "task", self.experiment.main_columns, self.task_files)
        for name, column in self.experiment.shown_columns.items():
            if column.metric is not None:
                metrics = Task.read(self.task_files[column.task]).metrics
                reject_unknown(f"columns: {name}", "metric", [column.metric], metrics)
                from mtl.metric_functions import is_error  # here: it imports torch

                if is_error(column.metric):
                    raise UserError(
                        f"columns: {name}: smaller values of {column.metric} are better, but a "
                        "table compares scores; choose another metric"
                    )

    def _seeds(self, experiment: Experiment) -> tuple[int, ...]:
        """The seeds of the size; with looks, as many as the last look needs."""
        count = experiment.looks[-1] if experiment.looks else len(self.size.seeds)
        return self._more_seeds(self.size.seeds, count)

    def _more_seeds(self, seeds: Sequence[int], count: int) -> tuple[int, ...]:
        """The first seeds, followed by others than that of the search."""
        excluded = [self.size.search.seed] if self.size.search else []
        return more_seeds(seeds, count, excluded)

    def with_seeds(self, count: int) -> Self:
        """A copy of the plan with another number of seeds."""
        changed = copy(self)
        changed.seeds = self._more_seeds(self.seeds, count)
        return changed

    def with_looks(self, looks: list[int]) -> Self:
        """A copy of the plan with other looks."""
        changed = copy(self)
        changed.experiment = replace(self.experiment, looks=looks)
        return changed

    def with_tuned(
        self,
        found: dict[tuple[str, str | None], Choice],
        tried: dict[tuple[str, str | None], list[Choice]],
    ) -> Self:
        """A copy of the plan whose runs use the option values that a search has found.

        Args:
            found: The best values by row and task.
            tried: All values that were tried.
        """
        changed = copy(self)
        changed.tuned, changed.tried = self.tuned | found, self.tried | tried
        return changed

    def at_look(self, seeds: int, stopped: dict[str, int]) -> Self:
        """A copy of the plan with the first seeds only.

        Args:
            seeds: Number of seeds of undecided rows.
            stopped: Number of seeds of the other rows.
        """
        changed = copy(self)
        changed.seeds, changed.stopped = self.seeds[:seeds], stopped
        return changed

    def search_space(self, row: str) -> dict[str, list[Any] | dict[str, Any]]:
        """The options of a row that are tuned; empty if none are."""
        variant = self.experiment.rows[row]
        if self.size.search is None or variant.command != "fit":
            return {}
        return self.size.search.space if variant.search is None else variant.search

    @property
    def limits_examples(self) -> bool:
        """Whether some runs train on a subset that `data.max_examples` chooses."""
        options = [self.size.options, *(row.options for row in self.experiment.rows.values())]
        return any("data.max_examples" in named for named in options) or any(
            word.startswith("--data.max_examples") for word in self.extra_options
        )

    def row_seeds(self, row: str) -> tuple[int, ...]:
        """The seeds of a row."""
        seed = self.experiment.rows[row].seed
        return self.seeds[: self.stopped.get(row)] if seed is None else (seed,)

    def row_tasks(self, row: str) -> list[str | None]:
        """The tasks, or groups, that a row has a run for; None stands for a run of the suite."""
        variant = self.experiment.rows[row]
        if variant.groups:  # without the tasks that the size does not have
            groups = ([task for task in each if task in self.task_files] for each in variant.groups)
            return list(dict.fromkeys(AND.join(group) for group in groups if group))
        return [None] if variant.of == "suite" else list(self.experiment.main_columns)

    def runs(self, row: str, seeds: Sequence[int] | None = None) -> Iterator[RunSpec]:
        """All runs of a row, including those of its grid.

        Args:
            row: The row.
            seeds: The seeds. Default: those of the row.
        """
        grid = {
            option: listed_values(
                self.size.values[values[1:-1]] if isinstance(values, str) else values
            )
            for option, values in self.experiment.rows[row].grid.items()
        }
        choices = [tuple(zip(grid, values, strict=True)) for values in product(*grid.values())]
        seeds = self.row_seeds(row) if seeds is None else seeds
        front = self.experiment.front
        tuned_as = front.row if front and row in self.weightings else row
        for seed, task, choice in product(seeds, self.row_tasks(row), choices):
            yield RunSpec(row, seed, task, self.tuned.get((tuned_as, task), ()) + choice)

    def all_runs(self) -> list[RunSpec]:
        """The runs of all rows, each after the runs that it uses."""
        return [run for row in self.experiment.rows for run in self.runs(row)]

    def trials(self) -> list[RunSpec]:
        """The trials of the search that have a score."""
        seed = self.size.search.seed if self.size.search else 0
        return [
            RunSpec(row, seed, task, choice)
            for (row, task), choices in self.tried.items()
            for choice in choices
        ]

    def used_runs(self, run: RunSpec) -> dict[str, list[RunSpec]]:
        """The candidates for each option that names another run: several if that row has a grid.

        A run of several tasks has an entry for each task of a row with one run per task:
        `OPTION@TASK`.
        """
        used: dict[str, list[RunSpec]] = {}
        for option, row in self.experiment.rows[run.row].uses.items():
            fixed_seed = self.experiment.rows[row].seed
            seed = run.seed if fixed_seed is None else fixed_seed
            for other in self.runs(row, [seed]):
                if other.task in (None, run.task) or run.task in other.tasks:
                    used.setdefault(option, []).append(other)
                elif run.task is None or other.task in run.tasks:
                    used.setdefault(f"{option}@{other.task}", []).append(other)
        return used

    def dependencies(self, run: RunSpec) -> list[RunSpec]:
        """The runs that a run uses."""
        return [other for used in self.used_runs(run).values() for other in used]

    def all_dependencies(self, run: RunSpec) -> list[RunSpec]:
        """The runs that a run uses, directly or indirectly.

        Each after the runs that it uses itself.
        """
        ordered: list[RunSpec] = []
        for used in self.dependencies(run):
            for other in (*self.all_dependencies(used), used):
                if other not in ordered:
                    ordered.append(other)
        return ordered


def default_size(experiment: Experiment) -> str:
    """`mini`, or the only size.

    Raises:
        UserError: If there are several others.
    """
    names = list(experiment.sizes)
    if "mini" in names or len(names) == 1:
        return "mini" if "mini" in names else names[0]
    raise UserError(f"--size: give one of {', '.join(names)}")


def more_seeds(seeds: Sequence[int], count: int, excluded: Collection[int] = ()) -> tuple[int, ...]:
    """The first seeds, followed by larger ones if there are not enough.

    >>> more_seeds([1, 2, 3], 5), more_seeds([1, 2, 3], 2), more_seeds([1, 2, 3], 5, [4])
    ((1, 2, 3, 4, 5), (1, 2), (1, 2, 3, 5, 6))
    """
    last = max(seeds) + 1 + count + len(excluded)
    following = [seed for seed in range(max(seeds) + 1, last) if seed not in excluded]
    return (*seeds, *following)[:count]
