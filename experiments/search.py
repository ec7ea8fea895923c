"""Hyper-parameters of every row from the same number of trials, with Optuna (the extra `search`)."""

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.jobs import Machine, metrics, run_graph
from experiments.runs import Runs
from experiments.table import Plan, Run, Search
from mtl.text import DataError


def searched(plan: Plan, root: Path, machine: Callable[[], Machine], storage: Path) -> Plan:
    """A plan whose rows have the values that validated best; all rows are given as many trials, with the first seed.

    Trials are ordinary runs, and the storage keeps what was found: a search that was cut off goes on.

    Args:
        plan: The plan.
        root: Folder of the runs.
        machine: Makes what a trial's runs run on.
        storage: Optuna's journal.

    Raises:
        DataError: If Optuna is not there, or no trial of a row ends.
    """
    search = plan.size.search
    if search is None:
        return plan
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise DataError("a table with `search` needs optuna, which comes with mtl's extra `search`") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage.parent.mkdir(parents=True, exist_ok=True)
    journal = JournalStorage(JournalFileBackend(str(storage)))
    for name, row in plan.table.rows.items():
        if row.command != "fit":
            continue
        study = optuna.create_study(storage=journal, study_name=name, direction="maximize", load_if_exists=True)
        for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):  # cut off; its runs are found again
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        while len(complete := study.get_trials(states=[optuna.trial.TrialState.COMPLETE])) < search.trials:
            if len(study.trials) >= 3 * search.trials:
                raise DataError(f"search: {len(study.trials)} trials of row {name!r} and {len(complete)} ended; see their logs")
            study.sampler = optuna.samplers.TPESampler(seed=search.seed + len(complete))
            asked = study.ask()
            value = _value(plan, root, machine, name, tuple(_suggested(asked, search).items()))
            if value is None:
                study.tell(asked, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(asked, value)
        best: dict[str, list[Any] | str] = {option: [value] for option, value in study.best_params.items()}
        plan = plan.with_row(name, replace(row, grid=row.grid | best))
    return plan


def _value(plan: Plan, root: Path, machine: Callable[[], Machine], row: str, choice: tuple[tuple[str, Any], ...]) -> float | None:
    """The validation score of a row with some values, the mean over its runs of the first seed; None where one fails."""
    runs = Runs(plan, root)
    spec = plan.table.rows[row]
    seed = plan.seeds[0] if spec.seed is None else spec.seed
    own = [Run(row, seed, task, choice) for task in ([None] if spec.of == "suite" else plan.table.tasks)]
    before: list[Run] = []
    for run in own:
        before += [need for need in runs.all_needs(run) if need not in before]
    if run_graph([*before, *own], runs.needs, runs.job, machine()):
        return None
    return statistics.fmean(metrics(runs.job(run).out)["validation"]["mean"] for run in own)


def _suggested(trial: Any, search: Search) -> dict[str, Any]:
    found = {}
    for option, space in search.space.items():
        if isinstance(space, list):
            found[option] = trial.suggest_categorical(option, space)
        else:
            low, high = float(space["low"]), float(space["high"])
            found[option] = trial.suggest_float(option, low, high, log=bool(space.get("log", False)))
    return found
