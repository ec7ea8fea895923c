"""What it costs to train a row of a table, to store its models and to use them."""

import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple

from mtl.compare.run_spec import RunSpec
from mtl.compare.scores import Scores


class Cost(NamedTuple):
    """The cost of a row: all runs of one seed together, the mean over seeds; None if unknown.

    Attributes:
        examples: Number of training examples drawn.
        steps: Number of updates.
        seconds: Wall time of training, including validation.
        memory: Peak memory in bytes of the run that uses most.
        trained: Number of trained parameters.
        total: Number of parameters stored.
        passes: Encoder passes that predict all tasks of a text.
        tuning: Seconds of the runs that only served to choose options: all trials of a search, and
            the other runs of a seed's grid. None if the comparison made none.
    """

    examples: float | None
    steps: float | None
    seconds: float | None
    memory: float | None
    trained: float | None
    total: float | None
    passes: float | None = None
    tuning: float | None = None

    @property
    def with_tuning(self) -> float | None:
        """Seconds of training one seed, trials included; None if unknown, or if none were made."""
        if self.seconds is None or self.tuning is None:
            return None
        return self.seconds + self.tuning

    @property
    def speed(self) -> float | None:
        """Training examples per second; None if unknown."""
        return self.examples / self.seconds if self.examples and self.seconds else None

    @property
    def time(self) -> float | None:
        """Seconds of training one seed, with the trials if there were any."""
        return self.seconds if self.with_tuning is None else self.with_tuning


def row_cost(scores: Scores, row: str) -> Cost:
    """The cost of a row, including the runs that it starts from, but not those that it merges.

    Seeds with a missing run are skipped.

    Parameters and encoder passes are counted over the row's own runs only: the models that it ends
    with.
    """
    everything, own = [], []
    merges = scores.plan.experiment.rows[row].command == "merge"
    for seed in scores.seeds(row):
        runs = {run for run in scores.folders if (run.row, run.seed) == (row, seed)}
        if len(runs) < len(scores.plan.row_tasks(row)):
            continue
        used = {
            other
            for run in runs
            for other in scores.plan.all_dependencies(run)
            if other in scores.folders and not merges
        }
        everything.append(_total_cost(scores, runs | used))
        own.append(_total_cost(scores, runs))
    mean = Cost(*map(_mean, zip(*everything, strict=True))) if everything else Cost(*8 * [None])
    return mean._replace(
        trained=_mean(cost.trained for cost in own),
        total=_mean(cost.total for cost in own),
        passes=_mean(cost.passes for cost in own),
        tuning=_tuning_seconds(scores, row),
    )


def _tuning_seconds(scores: Scores, row: str) -> float | None:
    """Seconds of a row's trials, and of its grid's other runs for one seed."""
    if not scores.tuning:
        return None
    seeds = scores.seeds(row)
    own = [run for run in scores.tuning if run.row == row]
    grid = {run for run in own if run.seed in seeds}
    trials = {run for run in own if run not in grid}
    trials |= {
        other
        for run in trials
        for other in scores.plan.all_dependencies(run)
        if other in scores.tuning
    }

    def seconds(runs: set[RunSpec]) -> float:
        return _total([scores.tuning[run] for run in runs], "seconds") or 0.0

    return seconds(trials) + seconds(grid) / len(seeds)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _total_cost(scores: Scores, runs: set[RunSpec]) -> Cost:
    """The cost of some runs together."""
    records = [scores.records[run] for run in runs]
    memory = [record["memory"] for record in records if record.get("memory")]
    parameters = [record.get("parameters", {}) for record in records]
    return Cost(
        _total(records, "examples_drawn"),
        _total(records, "steps"),
        _total(records, "seconds"),
        max(memory, default=None),
        _total(parameters, "trained"),
        _total(parameters, "total"),
        _total(records, "encoder_passes"),
    )


def _total(records: list[dict[str, Any]], key: str) -> float | None:
    """The sum of an entry over records.

    An entry may itself be a mapping of numbers. None if no record has it.
    """
    values = [record[key] for record in records if record.get(key) is not None]
    numbers = [sum(value.values()) if isinstance(value, dict) else value for value in values]
    return float(sum(numbers)) if numbers else None
