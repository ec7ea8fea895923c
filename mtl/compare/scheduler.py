"""Runs jobs in the order of their dependencies; skips finished jobs.

A failed job stops only those that need it.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Generic, Protocol, TypeVar

from mtl.compare.jobs import Job
from mtl.compare.run_progress import RunProgress
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


def run_graph(
    keys: Sequence[Key],
    needs: Callable[[Key], Sequence[Key]],
    job_of: Callable[[Key], Job],
    executor: Executor,
    *,
    title: str = "runs",
    following: int = 0,
    on_start: Callable[[Key, Job], None] = lambda key, job: None,
) -> dict[Key, str]:
    """Runs all jobs, each when the jobs that it needs are finished.

    Args:
        keys: Keys of the jobs, each after those that it needs.
        needs: The keys of the jobs that one job needs.
        job_of: Makes a job; called when all jobs that it needs are finished.
        executor: Runs the jobs.
        title: What the jobs are, for the progress bar.
        following: Number of jobs that come after these, for the time left.
        on_start: Called with each job before it is submitted.

    Returns:
        The reason for each job that failed.
    """
    return _Schedule(keys, needs, job_of, on_start).run(executor, title, following)


class _Schedule(Generic[Key]):
    """The state of `run_graph`, whose arguments it takes."""

    def __init__(
        self,
        keys: Sequence[Key],
        needs: Callable[[Key], Sequence[Key]],
        job_of: Callable[[Key], Job],
        on_start: Callable[[Key, Job], None],
    ) -> None:
        self.needs, self.job_of, self.on_start, self.total = needs, job_of, on_start, len(keys)
        self.pending, self.done = list(keys), set[Key]()
        self.failed: dict[Key, str] = {}
        self.running: dict[Future[None], tuple[Key, Job]] = {}

    def run(self, executor: Executor, title: str, following: int) -> dict[Key, str]:
        """Runs all jobs; returns the reason for each that failed."""
        try:
            with RunProgress(f"{title}, {executor.about}", self.total, following) as progress:
                while self.pending or self.running:
                    if ready := self._take_ready():
                        for key, job in ready:
                            self.on_start(key, job)
                        futures = executor.submit([job for _, job in ready])
                        self.running |= dict(zip(futures, ready, strict=True))
                    progress.show(self.ended, self._started())
                    if self.running:
                        self._collect(progress)
                        progress.show(self.ended, self._started())
        finally:
            executor.close()
        return self.failed

    def _started(self) -> dict[str, Job]:
        """The jobs that an executor works on, by their keys."""
        return {str(key): job for key, job in self.running.values() if job.log.exists()}

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

    def _collect(self, progress: RunProgress) -> None:
        """Waits until a job ends, and records all that have ended.

        In the order in which they started.
        """
        ended: set[Future[None]] = set()
        while not ended:
            ended, _ = wait(self.running, timeout=1, return_when=FIRST_COMPLETED)
            progress.show(self.ended, self._started())
        for future in [future for future in self.running if future in ended]:
            key, job = self.running.pop(future)
            if future.exception() or not job.finished:
                self.failed[key] = str(job.log)
            else:
                self.done.add(key)
            failure = f": failed, see {job.log}" if key in self.failed else ""
            progress.line(self.ended, f"{key}{failure}", key in self.failed)
