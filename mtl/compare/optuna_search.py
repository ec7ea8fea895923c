"""Trials that Optuna chooses (extra `search`)."""

import hashlib
import json
from pathlib import Path
from typing import Any

from mtl.compare.plan import Plan
from mtl.compare.run_index import RunIndex
from mtl.compare.run_spec import Choice, RunSpec, listed_values
from mtl.errors import UserError

# Trials that run at once, without the results of one another. Optuna's sampler draws as many at
# random first.
AT_ONCE = 10


class OptunaTrials:
    """The trials of one row, or of one task of a row.

    The storage has one study for each row, task and set of options: with other options or seeds the
    search starts from scratch. A failed trial counts as one of the trials.

    Args:
        plan: The plan.
        unit: The row, and the task of its runs.
        storage: Optuna's journal file.

    Raises:
        UserError: If Optuna is not installed.
    """

    stored = True

    def __init__(self, plan: Plan, unit: tuple[str, str | None], storage: Path) -> None:
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ImportError as error:
            raise UserError(
                "a comparison whose `search` is not a grid needs optuna: pip install optuna, or "
                "install mtl with its extra `search`"
            ) from error
        assert plan.size.search is not None
        self._search, self._space = plan.size.search, plan.search_space(unit[0])
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage.parent.mkdir(parents=True, exist_ok=True)
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(storage))),
            study_name=study_name(plan, *unit),
            direction="maximize",
            load_if_exists=True,
        )
        self._numbers: dict[Choice, int] = {}

    def open(self) -> list[Choice]:
        """The trials that were interrupted, and as many new ones as can run at once."""
        import optuna

        opened: list[Choice] = []
        for trial in self._study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            if len(trial.params) == len(self._space):
                opened.append(tuple(trial.params.items()))
                self._numbers[opened[-1]] = trial.number
            else:
                self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        count = len(self._study.trials)
        target = min(self._search.trials, max(AT_ONCE, count + (not opened)))
        for _ in range(target - count):
            self._study.sampler = optuna.samplers.TPESampler(
                n_startup_trials=AT_ONCE, seed=self._search.seed + len(self._study.trials)
            )
            new = self._study.ask()
            opened.append(tuple(self._suggest(new).items()))
            self._numbers[opened[-1]] = new.number
        return opened

    def report(self, choice: Choice, score: float | None) -> None:
        """Reports a trial's score; None if it failed."""
        import optuna

        if score is None:
            self._study.tell(self._numbers[choice], state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(self._numbers[choice], score)

    def best(self) -> Choice | None:
        """The trial with the best score."""
        return tuple(self._study.best_params.items()) if self.tried() else None

    def tried(self) -> list[Choice]:
        """The trials that have a score."""
        complete = [trial for trial in self._study.trials if trial.state.name == "COMPLETE"]
        return [tuple(trial.params.items()) for trial in complete]

    def _suggest(self, trial: Any) -> dict[str, Any]:
        """A value for each option of the search space."""
        values: dict[str, Any] = {}
        for option, space in self._space.items():
            if isinstance(space, list):
                values[option] = trial.suggest_categorical(option, listed_values(space))
            else:
                low, high, log = float(space["low"]), float(space["high"]), bool(space.get("log"))
                values[option] = trial.suggest_float(option, low, high, log=log)
        return values


def study_name(plan: Plan, row: str, task: str | None) -> str:
    """A study's name: the row, the task, and a digest of the search and of the other options."""
    assert plan.size.search is not None
    run, index = RunSpec(row, plan.size.search.seed, task), RunIndex(plan, Path())
    names = [index.name_and_arguments(each, {})[0] for each in (*plan.all_dependencies(run), run)]
    content = json.dumps([names, str(plan.size.search), str(plan.search_space(row))])
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    return " ".join(filter(None, [row, task, digest]))
