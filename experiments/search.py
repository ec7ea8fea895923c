"""Hyper-parameters of every row from the same number of trials, with Optuna (the extra `search`)."""

import hashlib
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.jobs import metrics
from experiments.plan import Plan, Run
from experiments.run_index import Runs
from experiments.scheduler import Machine, run_graph
from experiments.table import Row, Search
from mtl.errors import UserError

# Trials of a row that do not build on one another, and so run at once; Optuna's sampler draws as many at random.
AT_ONCE = 10


def searched(plan: Plan, root: Path, machine: Callable[[], Machine] | None, storage: Path) -> Plan:
    """A plan whose rows have the values that validated best; every row is given as many trials, with the first seed.

    Trials are ordinary runs. The storage keeps what was asked and found, for each question apart: a search that was cut
    off goes on, and one of other options or seeds starts anew. A trial that fails is one of the row's trials.

    Args:
        plan: The plan.
        root: Folder of the runs.
        machine: Makes what trials run on; None to run none, and to take what there is.
        storage: Optuna's journal.

    Raises:
        UserError: If Optuna is not there.
    """
    search = plan.size.search
    if search is None:
        return plan
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise UserError(
            "a table with `search` needs optuna, which comes with mtl's extra `search`"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage.parent.mkdir(parents=True, exist_ok=True)
    journal = JournalStorage(JournalFileBackend(str(storage)))
    studies = {
        name: optuna.create_study(
            storage=journal,
            study_name=_question(plan, name),
            direction="maximize",
            load_if_exists=True,
        )
        for name, row in plan.table.rows.items()
        if row.command == "fit"
    }
    while machine:
        asked = [
            (name, trial)
            for name, study in studies.items()
            for trial in _open_trials(study, search)
        ]
        if not asked:
            break
        values = _values(
            plan, root, machine(), [(name, tuple(params.items())) for name, (_, params) in asked]
        )
        for (name, (number, _)), value in zip(asked, values, strict=True):
            if value is None:
                studies[name].tell(number, state=optuna.trial.TrialState.FAIL)
            else:
                studies[name].tell(number, value)
    for name, study in studies.items():
        if any(trial.state.name == "COMPLETE" for trial in study.trials):
            row: Row = plan.table.rows[name]
            best: dict[str, list[Any] | str] = {
                option: [value] for option, value in study.best_params.items()
            }
            plan = plan.with_row(name, replace(row, grid=row.grid | best))
    return plan


def _question(plan: Plan, row: str) -> str:
    """A study's name: the row, and what its trials depend on beside the values tried."""
    own, runs = _runs(plan, row), Runs(plan, Path())
    names = [runs.name(run, {})[0] for run in (*plan.all_needs(own[0]), *own)]
    content = json.dumps([names, str(plan.size.search)])
    return f"{row} {hashlib.sha256(content.encode()).hexdigest()[:8]}"


def _open_trials(study: Any, search: Search) -> list[tuple[int, dict[str, Any]]]:
    """Numbers and values of the trials to run next: those that were cut off, and as many new ones as can run at once."""
    import optuna

    found = []
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        if len(trial.params) == len(search.space):
            found.append((trial.number, dict(trial.params)))
        else:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    for _ in range(
        min(search.trials, max(AT_ONCE, len(study.trials) + (not found))) - len(study.trials)
    ):
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=AT_ONCE, seed=search.seed + len(study.trials)
        )
        trial = study.ask()
        found.append((trial.number, _suggested(trial, search)))
    return found


def _runs(plan: Plan, row: str, choice: tuple[tuple[str, Any], ...] = ()) -> list[Run]:
    """A row's runs of the first seed, with some values."""
    spec = plan.table.rows[row]
    seed = plan.seeds[0] if spec.seed is None else spec.seed
    return [
        Run(row, seed, task, choice)
        for task in ([None] if spec.of == "suite" else plan.table.tasks)
    ]


def _values(
    plan: Plan, root: Path, machine: Machine, trials: list[tuple[str, tuple[tuple[str, Any], ...]]]
) -> list[float | None]:
    """Of each trial (row, values) the validation score, the mean over its runs; None where one of them fails."""
    runs = Runs(plan, root)
    own = [_runs(plan, *trial) for trial in trials]
    every: list[Run] = []
    for run in (run for part in own for run in part):
        every += [other for other in (*plan.all_needs(run), run) if other not in every]
    failed = run_graph(every, plan.needs, runs.job, machine)
    return [
        None
        if any(run in failed for run in part)
        else statistics.fmean(metrics(runs.job(run).out)["validation"]["mean"] for run in part)
        for part in own
    ]


def _suggested(trial: Any, search: Search) -> dict[str, Any]:
    found = {}
    for option, space in search.space.items():
        if isinstance(space, list):
            found[option] = trial.suggest_categorical(option, space)
        else:
            low, high = float(space["low"]), float(space["high"])
            found[option] = trial.suggest_float(
                option, low, high, log=bool(space.get("log", False))
            )
    return found
