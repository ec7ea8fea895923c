"""Fitting a comparison into a budget of time."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from mtl.compare.forecast import SEEDS, Estimator, Forecast, forecast, pilot_runs
from mtl.compare.plan import Plan
from mtl.compare.run_index import RunIndex
from mtl.compare.run_progress import duration
from mtl.compare.run_spec import RunSpec
from mtl.compare.scheduler import Executor, run_graph
from mtl.errors import UserError
from mtl.training.run_folder import write_atomic

# A budget is refused before the pilot if the estimate exceeds it by more than this factor: a few
# steps are not a precise measurement.
TOLERANCE = 2


def plan_within(
    plan: Plan,
    root: Path,
    budget: float,
    *,
    make_executor: Callable[[], Executor],
    test_sizes: Mapping[str, int],
    at_once: int,
    estimator: Estimator | None = None,
) -> tuple[Plan, Forecast]:
    """The plan with as many seeds as fit into a budget, by a pilot that measures the time of a run.

    The pilot trains one run of each row and task, with the seed of the search: they are the first
    trials, or without a search the first runs, and count towards the budget. With looks, the last
    look that fits is the last one. The choice is stored: the same command keeps it, whatever its
    finished runs show.

    Args:
        plan: The plan.
        root: Folder of the runs.
        budget: The budget in seconds, for pilot, trials and seeds.
        make_executor: Makes the executor of the pilot.
        test_sizes: Number of test examples of each task.
        at_once: Number of runs at a time.
        estimator: Estimates the seconds of runs, so that a budget that is much too small is refused
            before the pilot.

    Raises:
        UserError: If two seeds do not fit.
    """
    stored = root / "compare" / f"budget-{_digest(plan, budget)}.json"
    if stored.exists():
        chosen = json.loads(stored.read_text(encoding="utf-8"))
        plan = plan.with_looks(chosen["looks"]).with_seeds(chosen["seeds"])
        return plan, forecast(plan, root, test_sizes, at_once)
    index, ordered = RunIndex(plan, root), list[RunSpec]()
    for run in pilot_runs(plan):
        ordered += [each for each in (*plan.all_dependencies(run), run) if each not in ordered]
    if not all(map(index.is_complete, ordered)):
        guess = forecast(plan, root, test_sizes, at_once, estimator)
        if (needed := guess.seconds(2)) is not None and needed > TOLERANCE * budget:
            raise _too_little(budget, guess)
        failed = run_graph(ordered, plan.dependencies, index.job, make_executor(), title="pilot")
        if failed:
            run, why = next(iter(failed.items()))
            raise UserError(f"the pilot run of {run} failed: {why}")
    found = forecast(plan, root, test_sizes, at_once)
    seeds = min(found.seeds_within(budget), SEEDS[-1])
    if seeds < 2:
        raise _too_little(budget, found)
    if plan.experiment.looks:
        looks = [look for look in plan.experiment.looks if look <= seeds] or [seeds]
        plan = plan.with_looks(looks)
        seeds = looks[-1]
    write_atomic(stored, json.dumps({"seeds": seeds, "looks": plan.experiment.looks}))
    return plan.with_seeds(seeds), found


def _digest(plan: Plan, budget: float) -> str:
    """Identifies the comparison and the budget."""
    key = (plan.experiment, plan.size_name, plan.seeds, plan.extra_options, budget)
    return hashlib.sha256(repr(key).encode()).hexdigest()[:12]


def _too_little(budget: float, found: Forecast) -> UserError:
    """The error of a budget into which two seeds do not fit."""
    return UserError(
        f"--budget {duration(budget)}: too little: the trials and 2 seeds of every row take about "
        f"{duration(found.seconds(2) or 0.0)}, and would detect a difference of "
        f"{found.detectable(2):.0f} points. Give more time, fewer --trials, a smaller --size, or "
        "fewer rows"
    )
