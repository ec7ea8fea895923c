"""Runs on a SLURM cluster, as job arrays, through submitit (the extra `slurm`)."""

import json
import logging
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from experiments.jobs import Job, work
from mtl.errors import UserError
from mtl.training.run_folder import write_atomic

# What a run gets where a cluster's file does not say: a GPU is asked for there, not here.
RESOURCES: dict[str, Any] = {
    "timeout_min": 240,
    "cpus_per_task": 4,
    "mem_gb": 16,
    "nodes": 1,
    "tasks_per_node": 1,
}
# Runs of an array: SLURM's own limit where a cluster sets no other is 1,001.
ARRAY = 1000
# Seconds after which a run that is no longer queued and has left no word is given up; file systems take a while.
LOST = 60.0


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
    """A cluster: what is ready is one job array, for each kind of resources and each thousand runs.

    A run that an earlier command has queued is waited for, not queued again. With `tasks_per_node` or `nodes` above 1 a run's
    processes train together, by Lightning's DDP.

    Args:
        resources: YAML file of what a run gets, by submitit's names, such as `{gpus_per_node: 1, slurm_partition: gpu}`.
        folder: Where submitit keeps what it hands over, on a file system that the nodes share.
        every: Seconds between looks at the queue.

    Raises:
        UserError: If submitit or SLURM is not there.
    """

    about = "on SLURM"

    def __init__(
        self, resources: Path | None = None, folder: Path = Path("runs/slurm"), every: float = 5.0
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise UserError(
                "--where slurm needs submitit: pip install submitit, or install mtl with its extra `slurm`"
            ) from error
        # A cluster need not keep accounts: a job's result is a file, and the queue is asked by its own command.
        logging.getLogger("submitit").addFilter(lambda record: "sacct" not in record.getMessage())
        self._resources = RESOURCES | (
            (yaml.safe_load(resources.read_text(encoding="utf-8")) if resources else None) or {}
        )
        self._job = submitit.SlurmJob
        try:
            self._executor = submitit.AutoExecutor(folder, cluster="slurm")
            self._executor.update_parameters(**self._resources)
        except (RuntimeError, NameError, ValueError) as error:
            raise UserError(f"--where slurm: {error}") from error
        self.folder, self.every = folder, every
        self._waiting: list[tuple[Any, Future[None]]] = []
        self._gone: dict[str, float] = {}
        self._lock, self._closed = threading.Lock(), threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def submit(self, jobs: Sequence[Job]) -> list[Future[None]]:
        """Queues jobs as one array for each kind of resources."""
        while (queued := _queued()) is None:  # else what is queued would be queued again
            time.sleep(self.every)
        before = self._submitted()
        handles: dict[Path, Any] = {}
        for job in jobs:
            if (number := before.get(str(job.out))) in queued:
                handles[job.out] = self._job(self.folder, number)
        left = sorted((job for job in jobs if job.out not in handles), key=_needs)
        for _, alike in groupby(left, _needs):
            same = list(alike)
            self._executor.update_parameters(**(self._resources | same[0].resources))
            for start in range(0, len(same), ARRAY):
                part = same[start : start + ARRAY]
                handles |= dict(
                    zip(
                        (job.out for job in part),
                        self._executor.map_array(Resumable(), part),
                        strict=True,
                    )
                )
        numbers = before | {str(out): str(handle.job_id) for out, handle in handles.items()}
        write_atomic(self.folder / "submitted.json", json.dumps(numbers, indent=1))
        futures: list[Future[None]] = [Future() for _ in jobs]
        with self._lock:
            self._waiting += zip((handles[job.out] for job in jobs), futures, strict=True)
        return futures

    def close(self) -> None:
        """Looks no more; what is queued stays queued where the command was cut off, and is found again the next time."""
        self._closed.set()

    def _submitted(self) -> dict[str, str]:
        """For each run's folder the number of the job that was last queued for it."""
        path = self.folder / "submitted.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def _watch(self) -> None:
        while not self._closed.is_set():
            queued = _queued()
            with self._lock:
                ended = [
                    pair
                    for pair in self._waiting
                    if pair[0].done() or self._lost(str(pair[0].job_id), queued)
                ]
                self._waiting = [pair for pair in self._waiting if pair not in ended]
            for handle, future in ended:
                try:
                    error = (
                        handle.exception()
                        if handle.done()
                        else RuntimeError(f"job {handle.job_id} left the queue unended")
                    )
                except Exception as unreadable:
                    error = unreadable
                if error:
                    future.set_exception(error)
                else:
                    future.set_result(None)
            time.sleep(self.every)

    def _lost(self, number: str, queued: set[str] | None) -> bool:
        """Whether a job has been out of the queue for a while: cancelled, or killed with its node."""
        if queued is None or number in queued:
            self._gone.pop(number, None)
            return False
        return time.monotonic() - self._gone.setdefault(number, time.monotonic()) > max(
            LOST, 3 * self.every
        )


def _needs(job: Job) -> str:
    return json.dumps(job.resources, sort_keys=True)


def _queued() -> set[str] | None:
    """Numbers of the jobs in the queue; None where it cannot be asked."""
    found = subprocess.run(
        ["squeue", "-h", "-r", "-o", "%i"], capture_output=True, text=True, check=False
    )
    return set(found.stdout.split()) if found.returncode == 0 else None
