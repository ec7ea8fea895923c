"""Runs jobs in the order of their dependencies; skips finished jobs.

A failed job stops only those that need it.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Generic, Protocol, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mtl.compare.jobs import Job
from mtl.compare.local_executor import LocalExecutor
from mtl.errors import UserError

Key = TypeVar("Key")


class Executor(Protocol):
    """Runs jobs: on this machine, or on a cluster.

    Attributes:
        about: Description for the progress bar.
    """

    about: str

    def submit(self, jobs: Sequence[Job]) -> Sequence[Future[None]]:
        """Starts or queues jobs whose dependencies are finished."""

    def close(self) -> None:
        """Starts no more jobs, and releases resources."""


def run_all(jobs: Sequence[Job], at_once: int | None = None) -> list[Job]:
    """Runs independent jobs on this machine, except finished ones.

    Args:
        jobs: The jobs.
        at_once: Number of jobs that run at a time. Default: one per GPU, or per core.

    Returns:
        The jobs that failed.
    """
    executor = LocalExecutor(at_once)
    failed = run_graph(range(len(jobs)), lambda _: (), jobs.__getitem__, executor)
    return [jobs[key] for key in failed]


def run_graph(
    keys: Sequence[Key],
    needs: Callable[[Key], Sequence[Key]],
    job_of: Callable[[Key], Job],
    executor: Executor,
) -> dict[Key, str]:
    """Runs all jobs, each when the jobs that it needs are finished.

    Args:
        keys: Keys of the jobs, each after those that it needs.
        needs: The keys of the jobs that one job needs.
        job_of: Makes a job; called when all jobs that it needs are finished.
        executor: Runs the jobs.

    Returns:
        The reason for each job that failed.
    """
    return _Schedule(keys, needs, job_of).run(executor)


class _Schedule(Generic[Key]):
    """The state of `run_graph`, whose arguments it takes."""

    def __init__(
        self,
        keys: Sequence[Key],
        needs: Callable[[Key], Sequence[Key]],
        job_of: Callable[[Key], Job],
    ) -> None:
        self.needs, self.job_of, self.total = needs, job_of, len(keys)
        self.pending, self.done = list(keys), set[Key]()
        self.failed: dict[Key, str] = {}
        self.running: dict[Future[None], tuple[Key, Job]] = {}

    def run(self, executor: Executor) -> dict[Key, str]:
        """Runs all jobs; returns the reason for each that failed."""
        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        ]
        try:
            # Runs take minutes: estimate the speed from all finished runs, not from the last half
            # minute.
            with Progress(*columns, speed_estimate_period=7 * 86400) as progress:
                bar = progress.add_task(f"runs, {executor.about}", total=self.total)
                while self.pending or self.running:
                    if ready := self._take_ready():
                        futures = executor.submit([job for _, job in ready])
                        self.running |= dict(zip(futures, ready, strict=True))
                    progress.update(bar, completed=self.ended)
                    if self.running:
                        # The progress bar is drawn only in a terminal; elsewhere each run that ends
                        # prints a line.
                        self._collect(print_lines=not progress.console.is_terminal)
                        progress.update(bar, completed=self.ended)
        finally:
            executor.close()
        return self.failed

    @property
    def ended(self) -> int:
        """Number of jobs that are finished or failed."""
        return len(self.done) + len(self.failed)

    def _take_ready(self) -> list[tuple[Key, Job]]:
        """Removes from `pending` the jobs that can start, and returns them.

        Finished and failed ones are recorded.
        """
        ready: list[tuple[Key, Job]] = []
        for key in list(self.pending):
            needs = self.needs(key)
            if missing := [other for other in needs if other in self.failed]:
                self.failed[key] = f"needs another run that failed: {self.failed[missing[0]]}"
            elif not all(other in self.done for other in needs):
                continue
            elif (job := self._job(key)) is not None:
                if job.finished:
                    self.done.add(key)
                else:
                    ready.append((key, job))
            self.pending.remove(key)
        return ready

    def _job(self, key: Key) -> Job | None:
        """The job; None, and recorded as failed, if its options are invalid."""
        try:
            return self.job_of(key)
        except UserError as error:
            self.failed[key] = f"invalid options: {error}"
            return None

    def _collect(self, print_lines: bool) -> None:
        """Waits until a job ends, and records all that have ended.

        In the order in which they started.
        """
        ended, _ = wait(self.running, return_when=FIRST_COMPLETED)
        for future in [future for future in self.running if future in ended]:
            key, job = self.running.pop(future)
            if future.exception() or not job.finished:
                self.failed[key] = str(job.log)
            else:
                self.done.add(key)
            if print_lines:
                failure = f": failed, see {job.log}" if key in self.failed else ""
                print(f"{self.ended}/{self.total} {key}{failure}", flush=True)
