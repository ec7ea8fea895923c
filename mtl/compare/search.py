"""Hyper-parameter search: the same number of trials for every row, on validation data.

Trials are ordinary runs with a seed of their own, so an interrupted search resumes, and the luck of
the best trial is not part of the final results. A row with one run per task is tuned for each task
separately.
"""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, Protocol

from mtl.compare.jobs import read_results
from mtl.compare.plan import Plan
from mtl.compare.run_index import RunIndex
from mtl.compare.run_spec import Choice, RunSpec, listed_values
from mtl.compare.scheduler import Executor, run_graph
from mtl.errors import UserError

# Optuna's journal file, for spaces that are not a grid.
SEARCH_LOG = "search.log"
# What is tuned: a row, and the task of its runs (None: all tasks in one run).
Unit = tuple[str, str | None]
Space = dict[str, list[Any] | dict[str, Any]]


class Trials(Protocol):
    """The trials of one unit.

    Attributes:
        stored: Whether scores are kept in a storage, rather than read from the runs.
    """

    stored: bool

    def open(self) -> list[Choice]:
        """The trials to run next; empty if all are done."""

    def report(self, choice: Choice, score: float | None) -> None:
        """Records a trial's validation score; None if it failed."""

    def tried(self) -> list[Choice]:
        """The trials that have a score."""

    def best(self) -> Choice | None:
        """The trial with the best score; None if none has one."""


class GridTrials:
    """Every combination of listed values, each tried once.

    Args:
        space: Options and their values.
    """

    stored = False

    def __init__(self, space: Space) -> None:
        self._choices = grid_choices(space)
        self._scores: dict[Choice, float | None] = {}

    def open(self) -> list[Choice]:
        """The combinations that were not tried yet."""
        return [choice for choice in self._choices if choice not in self._scores]

    def report(self, choice: Choice, score: float | None) -> None:
        """Records a score."""
        self._scores[choice] = score

    def tried(self) -> list[Choice]:
        """The combinations that have a score."""
        return list(self._known)

    def best(self) -> Choice | None:
        """The combination with the best score; of equal ones the first."""
        known = self._known
        return max(known, key=lambda choice: known[choice]) if known else None

    @property
    def _known(self) -> dict[Choice, float]:
        return {choice: score for choice, score in self._scores.items() if score is not None}


def grid_choices(space: Space) -> list[Choice]:
    """All combinations of listed values."""
    values = [listed_values(value) for value in space.values() if isinstance(value, list)]
    return [tuple(zip(space, combination, strict=True)) for combination in product(*values)]


def is_grid(space: Space, trials: int) -> bool:
    """Whether all combinations are tried: only lists, and no more combinations than trials."""
    return (
        all(isinstance(values, list) for values in space.values())
        and len(grid_choices(space)) <= trials
    )


def searched_plan(plan: Plan, root: Path, make_executor: Callable[[], Executor] | None) -> Plan:
    """The plan with the option values that have the best validation score.

    Args:
        plan: The plan.
        root: Folder of the runs.
        make_executor: Makes the executor of a round of trials; None to run nothing, and to use the
            finished trials.

    Raises:
        UserError: If Optuna is needed and not installed, or all trials of a row failed.
    """
    storage = root / "tables" / SEARCH_LOG
    for units in _levels(plan):
        trials = {unit: _trials(plan, unit, storage) for unit in units}
        while opened := [
            (unit, choice)
            for unit in trials
            if make_executor or not trials[unit].stored
            for choice in trials[unit].open()
        ]:
            runs = [trial_run(plan, unit, choice) for unit, choice in opened]
            scores = _validation_scores(plan, root, make_executor and make_executor(), runs)
            for (unit, choice), score in zip(opened, scores, strict=True):
                trials[unit].report(choice, score)
            if make_executor is None:
                break
        found = {unit: best for unit in units if (best := trials[unit].best()) is not None}
        if make_executor and (failed := [unit for unit in units if unit not in found]):
            name = ", ".join(filter(None, failed[0]))
            raise UserError(
                f"search: every trial of {name} failed; the lines above name their logs. Fix the "
                "row, or remove it"
            )
        plan = plan.with_tuned(found, {unit: trials[unit].tried() for unit in units})
    return plan


def trial_run(plan: Plan, unit: Unit, choice: Choice) -> RunSpec:
    """The run of a trial: with the seed of the search."""
    assert plan.size.search is not None
    return RunSpec(unit[0], plan.size.search.seed, unit[1], choice)


def planned_trials(plan: Plan) -> dict[str, int]:
    """Number of trial runs of each row."""
    search = plan.size.search
    counts: dict[str, int] = {}
    for row, _ in (unit for units in _levels(plan) for unit in units):
        space = plan.search_space(row)
        assert search is not None
        count = len(grid_choices(space)) if is_grid(space, search.trials) else search.trials
        counts[row] = counts.get(row, 0) + count
    return counts


def unused_trials(plan: Plan) -> list[str]:
    """Warnings about rows with fewer combinations of listed values than trials."""
    search = plan.size.search
    rows: dict[int, list[str]] = {}
    for name in plan.experiment.rows if search else ():
        space = plan.search_space(name)
        if search and space and is_grid(space, search.trials):
            rows.setdefault(len(grid_choices(space)), []).append(name)
    return [
        f"search: trials {search.trials}, but the listed values have {count} "
        f"combination{'s' * (count > 1)}: rows {', '.join(names)} are tuned with {count}"
        for count, names in rows.items()
        if search and count < search.trials
    ]


def _levels(plan: Plan) -> Iterator[list[Unit]]:
    """The units that can be tuned together: after the rows that they use."""
    tuned: set[str] = set()
    waiting = [name for name in plan.experiment.rows if plan.search_space(name)]
    while waiting:
        ready = [
            name
            for name in waiting
            if not {other.row for run in plan.runs(name) for other in plan.all_dependencies(run)}
            & (set(waiting) - {name})
        ]
        yield [(name, task) for name in ready for task in plan.row_tasks(name)]
        tuned |= set(ready)
        waiting = [name for name in waiting if name not in tuned]


def _trials(plan: Plan, unit: Unit, storage: Path) -> Trials:
    search, space = plan.size.search, plan.search_space(unit[0])
    assert search is not None
    if is_grid(space, search.trials):
        return GridTrials(space)
    from mtl.compare.optuna_search import OptunaTrials

    return OptunaTrials(plan, unit, storage)


def _validation_scores(
    plan: Plan, root: Path, executor: Executor | None, runs: list[RunSpec]
) -> list[float | None]:
    """The validation score of each trial; None if it failed, or is not finished."""
    index = RunIndex(plan, root)
    ordered: list[RunSpec] = []
    for run in runs:
        ordered += [r for r in (*plan.all_dependencies(run), run) if r not in ordered]
    if executor:
        following = len(plan.all_runs())
        run_graph(
            ordered, plan.dependencies, index.job, executor, title="trials", following=following
        )
    return [
        float(read_results(index.job(run).out)["validation"]["mean"])
        if index.is_finished(run)
        else None
        for run in runs
    ]
