"""Many runs: each when what it needs is done, none that is finished, and none stopped by another that fails."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Protocol, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from experiments.jobs import Job
from experiments.local_executor import Local
from mtl.errors import UserError

Key = TypeVar("Key")


class Machine(Protocol):
    """Where jobs run."""

    about: str

    def submit(self, jobs: Sequence[Job]) -> Sequence[Future[None]]:
        """Takes jobs that need nothing more."""

    def close(self) -> None:
        """Ends what is left."""


def run_all(jobs: Sequence[Job], at_once: int | None = None) -> list[Job]:
    """Does what is not finished; gives the jobs that failed.

    Args:
        jobs: The jobs, none of which needs another.
        at_once: How many at a time; as many as fit where absent.
    """
    failed = run_graph(range(len(jobs)), lambda _: (), jobs.__getitem__, Local(at_once))
    return [jobs[key] for key in failed]


def run_graph(
    keys: Sequence[Key],
    needs: Callable[[Key], Sequence[Key]],
    job_of: Callable[[Key], Job],
    machine: Machine,
) -> dict[Key, str]:
    """Does all jobs, each when what it needs is done; gives for each that failed the reason.

    Args:
        keys: Names of the jobs, each after those that it needs.
        needs: The jobs that one needs.
        job_of: A job; called when all that it needs is done.
        machine: Where they run.
    """
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    left, done = list(keys), set[Key]()
    failed: dict[Key, str] = {}
    running: dict[Future[None], tuple[Key, Job]] = {}
    try:
        # Runs take minutes: the estimate is of all that have ended, not of the last half minute.
        with Progress(*columns, speed_estimate_period=7 * 86400) as progress:
            bar = progress.add_task(f"runs, {machine.about}", total=len(left))
            while left or running:
                ready = _ready(left, done, failed, needs, job_of)
                running |= dict(
                    zip(
                        machine.submit([job for _, job in ready]) if ready else [],
                        ready,
                        strict=True,
                    )
                )
                progress.update(bar, completed=len(done) + len(failed))
                if running:
                    ended, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in [
                        each for each in running if each in ended
                    ]:  # in the order in which they began
                        key, job = running.pop(future)
                        if future.exception() or not job.finished:
                            failed[key] = str(job.log)
                        else:
                            done.add(key)
                        if not progress.console.is_terminal:  # the bar is drawn in a terminal alone
                            ended_so_far = f"{len(done) + len(failed)}/{len(keys)}"
                            print(
                                f"{ended_so_far} {key}{f': failed, see {job.log}' if key in failed else ''}",
                                flush=True,
                            )
                    progress.update(bar, completed=len(done) + len(failed))
    finally:
        machine.close()
    return failed


def _ready(
    left: list[Key],
    done: set[Key],
    failed: dict[Key, str],
    needs: Callable[[Key], Sequence[Key]],
    job_of: Callable[[Key], Job],
) -> list[tuple[Key, Job]]:
    """Takes from what is left all that can be decided: jobs that can run now; those done, or failed, join theirs."""
    ready: list[tuple[Key, Job]] = []
    for key in list(left):
        if missing := [need for need in needs(key) if need in failed]:
            failed[key] = f"needs another that failed: {failed[missing[0]]}"
        elif not all(need in done for need in needs(key)):
            continue
        else:
            try:
                job = job_of(key)
            except UserError as error:
                failed[key] = f"its options cannot be used: {error}"
            else:
                if job.finished:
                    done.add(key)
                else:
                    ready.append((key, job))
        left.remove(key)
    return ready
