"""Which seeds to train at the looks that a definition fixes beforehand."""

from itertools import pairwise
from pathlib import Path

from mtl.compare.decision import Verdict
from mtl.compare.plan import Plan
from mtl.compare.results import Results
from mtl.compare.run_index import RunIndex


def plan_at_look(plan: Plan, root: Path, advance: bool) -> Plan:
    """The plan with the seeds of the current look, or of the next one.

    A row that is better or worse at a look gets no more seeds and keeps its verdict.

    Args:
        plan: The plan, with the seeds of the last look.
        root: Folder of the runs.
        advance: Whether to go to the next look if all runs of the current one are finished.
    """
    index, looks = RunIndex(plan, root), plan.experiment.looks
    stopped: dict[str, int] = {}
    current = plan.at_look(looks[0], stopped)
    for seeds, following in pairwise(looks):
        if not all(map(index.is_complete, current.all_runs())):
            return current
        stopped = stopped | dict.fromkeys(_decided(current, root) - stopped.keys(), seeds)
        more = plan.at_look(following, stopped)
        new = set(more.all_runs()) - set(current.all_runs())
        compared = _compared(plan)
        if compared <= stopped.keys() or not (advance or any(map(index.is_complete, new))):
            return plan.at_look(seeds, stopped)
        current, advance = more, advance and all(map(index.is_complete, new))
    return current


def _compared(plan: Plan) -> set[str]:
    """The rows that are compared with another one."""
    rows = plan.experiment.rows
    return {name for name, row in rows.items() if row.shown and name != plan.experiment.baseline}


def _decided(plan: Plan, root: Path) -> set[str]:
    """The rows that need no more seeds: decided, and no undecided row is compared with them."""
    results = Results(plan, RunIndex(plan, root).finished_folders(), {})
    decided = {
        row
        for row, decision in results.decisions.items()
        if decision.verdict in (Verdict.BETTER, Verdict.WORSE)
    }
    needed = {results.reference(row) for row in _compared(plan) - decided}
    return decided - needed
