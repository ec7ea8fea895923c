"""What numbers of seeds could tell and how long they take, before anything is trained."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtl.compare.decision import ALPHA
from mtl.compare.jobs import job_seconds, read_results
from mtl.compare.plan import Plan
from mtl.compare.planning import Noise, detectable_difference, half_width, mean_noise
from mtl.compare.results import Results
from mtl.compare.run_index import RunIndex
from mtl.compare.run_progress import duration
from mtl.compare.run_spec import RunSpec
from mtl.compare.search import grid_choices, is_grid, planned_trials, searched_plan

SEEDS = (5, 10, 20, 50)
# Standard deviation over seeds, in points, before it is measured.
DEFAULT_DEVIATION = 2.0
# The accuracy and the correlation of two models' errors that the noise of the test sets is
# computed with if there are no predictions yet.
ACCURACY, CORRELATION = 0.75, 0.5


@dataclass(frozen=True)
class Forecast:
    """What a comparison's plan can tell.

    Args:
        noise: The noise of a comparison.
        rows: Number of rows that are compared with the baseline.
        run_seconds: Seconds that one seed of all rows takes; None if not known.
        trial_seconds: Seconds that the trials of all rows take; None if not known.
        at_once: Number of runs at a time.
        source: `assumed`, or how the noise was measured.
        runs: Number of runs of each seed.
        trials: Number of runs of the searches.
        seeds_shown: Numbers of seeds that are shown.
        estimated: Whether times are estimated from a few steps, not measured by whole runs.
    """

    noise: Noise
    rows: int
    run_seconds: float | None
    trial_seconds: float | None
    at_once: int
    source: str
    runs: int
    trials: int
    seeds_shown: Sequence[int] = SEEDS
    estimated: bool = False

    @property
    def level(self) -> float:
        """Two-sided level of each comparison."""
        return ALPHA / max(1, self.rows)

    def detectable(self, seeds: int) -> float:
        """The difference that is detected with 80 % power, in points."""
        return detectable_difference(self.noise, seeds, self.level)

    def seconds(self, seeds: int) -> float | None:
        """The time that the trials and that many seeds take."""
        if self.run_seconds is None or self.trial_seconds is None:
            return None
        return (self.trial_seconds + seeds * self.run_seconds) / self.at_once

    def seeds_within(self, seconds: float) -> int:
        """The largest number of seeds that fits into a time, after the trials."""
        assert self.run_seconds is not None and self.trial_seconds is not None
        return math.floor((seconds * self.at_once - self.trial_seconds) / self.run_seconds)

    def __str__(self) -> str:
        title = f"{self.rows + 1} rows, {self.runs} runs of each seed"
        lines = [
            title + (f", {self.trials} trials of the search before them" if self.trials else ""),
            f"{'seeds':>5}  {'runs':>5}  {'difference':>10}  {'interval':>8}  time",
        ]
        for seeds in self.seeds_shown:
            seconds = self.seconds(seeds)
            lines.append(
                f"{seeds:>5}  {self.trials + seeds * self.runs:>5}  "
                f"{self.detectable(seeds):>10.1f}  "
                f"{f'± {half_width(self.noise, seeds, self.level):.1f}':>8}  "
                f"{'not measured' if seconds is None else duration(seconds)}"
            )
        return "\n".join(
            [
                *lines,
                "difference: in points, detected with 80 % power; rows compared with the "
                f"baseline: {self.rows}",
                f"standard deviation over seeds: {self.noise.seed_deviation:.1f} points "
                f"({self.source}); of a difference over test examples: "
                f"{math.sqrt(self.noise.test_variance):.1f} points "
                f"({'from the sizes of test sets' if self.source == 'assumed' else 'measured'})",
            ]
            + ([] if self.run_seconds and not self.estimated else [self._about_time()])
        )

    def _about_time(self) -> str:
        if self.run_seconds is None:
            return "time: `--budget TIME` measures it by pilot runs"
        return (
            f"time: for {self.at_once} run{'s' * (self.at_once > 1)} at a time, estimated from a "
            "few steps of each row; `--budget TIME` measures it by pilot runs"
        )


Estimator = Callable[[Sequence[RunSpec]], Mapping[RunSpec, float]]


def forecast(
    plan: Plan,
    root: Path,
    test_sizes: Mapping[str, int],
    at_once: int,
    estimator: Estimator | None = None,
) -> Forecast:
    """What a plan can tell, by the finished runs if there are any.

    Args:
        plan: The plan.
        root: Folder of the runs.
        test_sizes: Number of test examples of each task.
        at_once: Number of runs at a time.
        estimator: Estimates the seconds of runs; used for rows without a finished run.
    """
    # The finished runs are those with the option values that the finished trials have chosen.
    plan = searched_plan(plan, root, None)
    results = Results(plan, RunIndex(plan, root).finished_folders(), {})
    noises = [each.noise for each in results.decisions.values() if each.noise]
    noise = mean_noise(noises) or _assumed_noise(plan, test_sizes)
    timed = timed_runs(plan, root)
    pilots = pilot_runs(plan)
    missing = [run for run in pilots if (run.row, run.task) not in timed]
    estimated = estimator(missing) if estimator and missing else {}
    timed |= {(run.row, run.task): seconds for run, seconds in estimated.items()}
    source = f"measured, {len(noises)} comparison{'s' * (len(noises) > 1)}" if noises else "assumed"
    trials = planned_trials(plan)
    known = all((run.row, run.task) in timed for run in pilots)
    per_seed = trial_seconds = 0.0
    for run in pilots if known else []:
        seconds, row_tasks = timed[run.row, run.task], len(plan.row_tasks(run.row))
        per_seed += seconds * len(list(plan.runs(run.row, [run.seed]))) / row_tasks
        trial_seconds += seconds * trials.get(run.row, 0) / row_tasks
    return Forecast(
        noise,
        max(1, len([row for row in results.rows if row != plan.experiment.baseline])),
        per_seed if known else None,
        trial_seconds if known else None,
        at_once,
        source,
        sum(len(list(plan.runs(row, plan.seeds[:1]))) for row in plan.experiment.rows),
        sum(trials.values()),
        sorted({*SEEDS, len(plan.seeds)} - {1}),
        estimated=bool(estimated) and known,
    )


def _assumed_noise(plan: Plan, test_sizes: Mapping[str, int]) -> Noise:
    """The noise before any run: that of the test sets from their sizes."""
    sizes = [test_sizes[task] for task in plan.experiment.main_columns]
    variance = expected_test_variance(sizes)
    return Noise(DEFAULT_DEVIATION, variance, min(sizes), plan.experiment.paired)


def expected_test_variance(sizes: Sequence[int]) -> float:
    """W: variance of a difference in the mean over tasks that comes from the test examples.

    In squared points, for an accuracy of 75 % and two models whose errors correlate by 0.5.

    Args:
        sizes: Test examples of each task.
    """
    per_example = 2 * ACCURACY * (1 - ACCURACY) * (1 - CORRELATION) * 100**2
    return sum(per_example / size for size in sizes) / len(sizes) ** 2


def timed_runs(plan: Plan, root: Path) -> dict[tuple[str, str | None], float]:
    """The mean seconds of a row's finished runs of a task, training and test."""
    index = RunIndex(plan, root)
    found: dict[tuple[str, str | None], list[float]] = {}
    for run in {*plan.all_runs(), *pilot_runs(plan)}:
        if index.is_finished(run):
            out = index.job(run).out
            spent = job_seconds(out) or read_results(out).get("seconds", 0.0)
            found.setdefault((run.row, run.task), []).append(spent)
    return {row_and_task: statistics.fmean(times) for row_and_task, times in found.items()}


def pilot_runs(plan: Plan) -> list[RunSpec]:
    """One run of each row and task: the first trials of a row that is tuned."""
    return [run for row in plan.experiment.rows for run in _pilot_runs_of(plan, row)]


def _pilot_runs_of(plan: Plan, row: str) -> list[RunSpec]:
    """One run of each task of a row, with the seed of the search: the first of its trials."""
    search, space = plan.size.search, plan.search_space(row)
    if search is None:
        return list(plan.runs(row))[: len(plan.row_tasks(row))]
    first = grid_choices(space)[0] if space and is_grid(space, search.trials) else ()
    return [RunSpec(row, search.seed, task, first) for task in plan.row_tasks(row)]
