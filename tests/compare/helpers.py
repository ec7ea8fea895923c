"""Runs the comparisons of the tests."""

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from mtl.compare.definition import Experiment
from mtl.compare.jobs import Job, run_job
from mtl.compare.plan import Plan
from mtl.compare.results import Results
from mtl.compare.run_index import RunIndex
from mtl.compare.run_spec import RunSpec
from mtl.compare.scheduler import run_graph


class SequentialExecutor:
    """Runs jobs one after the other in this process; those with a given option fail."""

    about = "here"

    def __init__(self, failing: str = "-") -> None:
        self.failing, self.done = failing, 0

    def submit(self, jobs: Sequence[Job]) -> list[Future[None]]:
        futures: list[Future[None]] = []
        for job in jobs:
            futures.append(Future())
            try:
                if self.failing in (job.fit or ()):
                    raise RuntimeError("simulated failure")
                run_job(job)
                self.done += 1
                futures[-1].set_result(None)
            except RuntimeError as error:
                futures[-1].set_exception(error)
        return futures

    def close(self) -> None:
        pass


def done(table: Path, machine: SequentialExecutor, seeds: tuple[int, ...] = ()) -> Results:
    plan = Plan(Experiment.read(str(table)), "mini", seeds)
    runs = RunIndex(plan, table.parent / "runs")
    failed = run_graph(plan.all_runs(), plan.dependencies, runs.job, machine)
    return Results(plan, runs.finished_folders(), failed)


def the_run(results: Results, row: str, seed: int, task: str | None) -> RunSpec:
    return next(run for run in results.folders if run[:3] == (row, seed, task))


def lacking(finished: Results, *gone: RunSpec) -> Results:
    """The same results without some runs, which failed."""
    folders = {run: folder for run, folder in finished.folders.items() if run not in gone}
    return Results(finished.plan, folders, dict.fromkeys(gone, "log"))
