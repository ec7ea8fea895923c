"""Runs on a SLURM cluster, as job arrays, through submitit (the extra `slurm`)."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import yaml

from experiments.jobs import Job, work
from mtl.text import DataError

# What a run gets where a cluster's file does not say: a GPU is asked for there, not here.
RESOURCES: dict[str, Any] = {"timeout_min": 240, "cpus_per_task": 4, "mem_gb": 16, "nodes": 1, "tasks_per_node": 1}


class Resumable:
    """A run that SLURM may preempt: it is queued again, and goes on from its last checkpoint."""

    def __call__(self, job: Job) -> None:
        """What a worker of this machine does."""
        work(job)

    def checkpoint(self, job: Job) -> Any:
        """Asked for when the time is up or the node is wanted."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Resumable(), job)


class Slurm:
    """A cluster: what is ready is one job array.

    Args:
        resources: YAML file of what a run gets, by submitit's names, such as `{gpus_per_node: 1, slurm_partition: gpu}`.
        folder: Where submitit keeps what it hands over, on a file system that the nodes share.
        every: Seconds between looks at the queue.

    Raises:
        DataError: If submitit or SLURM is not there.
    """

    about = "on SLURM"

    def __init__(self, resources: Path | None = None, folder: Path = Path("runs/slurm"), every: float = 5.0) -> None:
        try:
            import submitit
        except ImportError as error:
            raise DataError(
                "--where slurm needs submitit: pip install submitit, or install mtl with its extra `slurm`"
            ) from error
        given = yaml.safe_load(resources.read_text(encoding="utf-8")) if resources else {}
        try:
            self._executor = submitit.AutoExecutor(folder, cluster="slurm")
            self._executor.update_parameters(**(RESOURCES | (given or {})))
        except (RuntimeError, NameError, ValueError) as error:
            raise DataError(f"--where slurm: {error}") from error
        self.every = every
        self._waiting: list[tuple[Any, Future[None]]] = []
        self._lock, self._closed = threading.Lock(), threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def submit(self, jobs: Sequence[Job]) -> list[Future[None]]:
        """Queues jobs as one array."""
        handles = self._executor.map_array(Resumable(), list(jobs))
        futures: list[Future[None]] = [Future() for _ in handles]
        with self._lock:
            self._waiting += zip(handles, futures, strict=True)
        return futures

    def close(self) -> None:
        """Looks no more; what is queued stays queued where the command was cut off, and is found finished the next time."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                ended = [pair for pair in self._waiting if pair[0].done()]
                self._waiting = [pair for pair in self._waiting if pair not in ended]
            for handle, future in ended:
                if error := handle.exception():
                    future.set_exception(error)
                else:
                    future.set_result(None)
            time.sleep(self.every)
