"""Hyper-parameter search with Optuna (extra `search`): the same number of trials for every row."""

import hashlib
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtl.compare.definition_parts import Search
from mtl.compare.jobs import read_metrics
from mtl.compare.plan import Choice, Plan, RunSpec
from mtl.compare.run_index import RunIndex
from mtl.compare.scheduler import Executor, run_graph
from mtl.errors import UserError

# Trials of a row that run at once, without the results of one another. Optuna's sampler draws as
# many at random first.
AT_ONCE = 10

# Number and option values of a trial.
Trial = tuple[int, dict[str, Any]]


def searched_plan(
    plan: Plan, root: Path, make_executor: Callable[[], Executor] | None, storage: Path
) -> Plan:
    """The plan with the option values that have the best validation score.

    Trials use the first seed.

    Trials are ordinary runs. The storage has one study for each row and set of options, so an
    interrupted search resumes, and one with other options or seeds starts from scratch. A failed
    trial counts as one of the row's trials.

    Args:
        plan: The plan.
        root: Folder of the runs.
        make_executor: Makes the executor of a round of trials; None to run nothing, and to use the
            finished trials.
        storage: Optuna's journal file.

    Raises:
        UserError: If Optuna is not installed.
    """
    search = plan.size.search
    if search is None:
        return plan
    studies = _open_studies(plan, storage)
    while make_executor:
        trials = [
            (row, trial) for row, study in studies.items() for trial in _open_trials(study, search)
        ]
        if not trials:
            break
        choices = [(row, tuple(values.items())) for row, (_, values) in trials]
        scores = _validation_scores(plan, root, make_executor(), choices)
        for (row, (number, _)), score in zip(trials, scores, strict=True):
            _report(studies[row], number, score)
    for name, study in studies.items():
        if any(trial.state.name == "COMPLETE" for trial in study.trials):
            spec = plan.experiment.rows[name]
            best = {option: [value] for option, value in study.best_params.items()}
            plan = plan.with_row(name, replace(spec, grid={**spec.grid, **best}))
    return plan


def _open_studies(plan: Plan, storage: Path) -> dict[str, Any]:
    """Optuna's study of each row that is trained."""
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise UserError(
            "a table with `search` needs optuna: pip install optuna, or install mtl with its "
            "extra `search`"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage.parent.mkdir(parents=True, exist_ok=True)
    journal = JournalStorage(JournalFileBackend(str(storage)))
    return {
        name: optuna.create_study(
            storage=journal,
            study_name=study_name(plan, name),
            direction="maximize",
            load_if_exists=True,
        )
        for name, row in plan.experiment.rows.items()
        if row.command == "fit"
    }


def study_name(plan: Plan, row: str) -> str:
    """A study's name: the row, and a digest of the search space and its trials' other options."""
    runs, index = _trial_runs(plan, row), RunIndex(plan, Path())
    names = [
        index.name_and_arguments(run, {})[0] for run in (*plan.all_dependencies(runs[0]), *runs)
    ]
    content = json.dumps([names, str(plan.size.search)])
    return f"{row} {hashlib.sha256(content.encode()).hexdigest()[:8]}"


def _open_trials(study: Any, search: Search) -> list[Trial]:
    """The trials to run next: those that were interrupted.

    And as many new ones as can run at once.
    """
    import optuna

    trials: list[Trial] = []
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        if len(trial.params) == len(search.space):
            trials.append((trial.number, dict(trial.params)))
        else:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    target = min(search.trials, max(AT_ONCE, len(study.trials) + (not trials)))
    for _ in range(target - len(study.trials)):
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=AT_ONCE, seed=search.seed + len(study.trials)
        )
        trial = study.ask()
        trials.append((trial.number, _suggest_values(trial, search)))
    return trials


def _suggest_values(trial: Any, search: Search) -> dict[str, Any]:
    """A value for each option of the search space."""
    values: dict[str, Any] = {}
    for option, space in search.space.items():
        if isinstance(space, list):
            values[option] = trial.suggest_categorical(option, space)
        else:
            low, high, log = float(space["low"]), float(space["high"]), bool(space.get("log"))
            values[option] = trial.suggest_float(option, low, high, log=log)
    return values


def _report(study: Any, number: int, score: float | None) -> None:
    """Reports a trial's score; None if the trial failed."""
    import optuna

    if score is None:
        study.tell(number, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(number, score)


def _trial_runs(plan: Plan, row: str, choice: Choice = ()) -> list[RunSpec]:
    """The runs of one trial: a row's runs with the first seed and some option values."""
    seed = plan.row_seeds(row)[0]
    return [RunSpec(row, seed, task, choice) for task in plan.row_tasks(row)]


def _validation_scores(
    plan: Plan, root: Path, executor: Executor, choices: list[tuple[str, Choice]]
) -> list[float | None]:
    """The validation score of each trial (row, values), the mean over its runs.

    None if one of them fails.
    """
    index = RunIndex(plan, root)
    trials = [_trial_runs(plan, row, choice) for row, choice in choices]
    ordered: list[RunSpec] = []
    for run in (run for runs in trials for run in runs):
        for other in (*plan.all_dependencies(run), run):
            if other not in ordered:
                ordered.append(other)
    failed = run_graph(ordered, plan.dependencies, index.job, executor)

    def score(run: RunSpec) -> float:
        return float(read_metrics(index.job(run).out)["validation"]["mean"])

    return [
        None if any(run in failed for run in runs) else statistics.fmean(map(score, runs))
        for runs in trials
    ]
