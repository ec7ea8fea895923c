"""Runs jobs on a SLURM cluster, as job arrays, with submitit (extra `slurm`)."""

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

from mtl.compare.jobs import Job, run_job
from mtl.errors import UserError
from mtl.training.run_folder import write_atomic
from mtl.user_files import read_yaml

# Default resources of a job. There is no GPU among them: a cluster's YAML file has to request it.
RESOURCES: dict[str, Any] = {
    "timeout_min": 240,
    "cpus_per_task": 4,
    "mem_gb": 16,
    "nodes": 1,
    "tasks_per_node": 1,
}
# Jobs in one array; SLURM's default limit is 1,001.
ARRAY = 1000
# Seconds until a job that left the queue without a result counts as failed: shared file systems
# show files late.
LOST = 60.0


class Resumable:
    """The function that SLURM runs.

    A preempted job is queued again, and resumes from its last checkpoint.
    """

    def __call__(self, job: Job) -> None:
        """Trains and tests the job."""
        run_job(job)

    def checkpoint(self, job: Job) -> Any:
        """Called by submitit when the time limit is reached or the job is preempted."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Resumable(), job)


class SlurmExecutor:
    """A SLURM cluster. Jobs that are ready are queued as arrays.

    One for each set of resources and thousand jobs.

    A job that an earlier command queued is waited for, not queued again. With `tasks_per_node` or
    `nodes` above 1 the processes of a job train together (Lightning's DDP).

    Args:
        resources: YAML file of resources by submitit's names, such as `{gpus_per_node: 1,
            slurm_partition: gpu}`.
        folder: Folder of submitit's files, on a file system that the nodes share.
        every: Seconds between two looks at the queue.

    Raises:
        UserError: If submitit or SLURM is not installed.
    """

    about = "on SLURM"

    def __init__(
        self, resources: Path | None = None, folder: Path = Path("runs/slurm"), every: float = 5.0
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise UserError(
                "--where slurm needs submitit: pip install submitit, or install mtl with its "
                "extra `slurm`"
            ) from error
        # sacct needs an accounting database, which a cluster may not have; results are files, and
        # squeue shows the queue.
        logging.getLogger("submitit").addFilter(lambda record: "sacct" not in record.getMessage())
        from_file = read_yaml(resources) if resources else None
        self._resources = RESOURCES | (from_file or {})
        self._job = submitit.SlurmJob
        try:
            self._executor = submitit.AutoExecutor(folder, cluster="slurm")
            self._executor.update_parameters(**self._resources)
        except (RuntimeError, NameError, ValueError) as error:
            raise UserError(f"--where slurm: {error}") from error
        self.folder, self.every = folder, every
        self._waiting: list[tuple[Any, Future[None]]] = []
        self._missing_since: dict[str, float] = {}
        self._lock, self._closed = threading.Lock(), threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def submit(self, jobs: Sequence[Job]) -> list[Future[None]]:
        """Queues jobs, as one array for each set of resources."""
        while (queued := _queued()) is None:  # without the queue, queued jobs would be queued twice
            time.sleep(self.every)
        numbers = self._submitted()
        handles: dict[Path, Any] = {
            job.out: self._job(self.folder, number)
            for job in jobs
            if (number := numbers.get(str(job.out))) in queued
        }
        handles |= self._submit_arrays([job for job in jobs if job.out not in handles])
        numbers |= {str(out): str(handle.job_id) for out, handle in handles.items()}
        write_atomic(self.folder / "submitted.json", json.dumps(numbers, indent=1))
        futures: list[Future[None]] = [Future() for _ in jobs]
        with self._lock:
            self._waiting += zip((handles[job.out] for job in jobs), futures, strict=True)
        return futures

    def close(self) -> None:
        """Stops looking at the queue.

        After an interruption, queued jobs stay queued, and the next command finds them.
        """
        self._closed.set()

    def _submit_arrays(self, jobs: Sequence[Job]) -> dict[Path, Any]:
        """Queues jobs; returns submitit's handle of each by its folder."""
        handles: dict[Path, Any] = {}
        for _, group in groupby(sorted(jobs, key=_resource_key), _resource_key):
            same = list(group)
            self._executor.update_parameters(**(self._resources | same[0].resources))
            for start in range(0, len(same), ARRAY):
                array = same[start : start + ARRAY]
                submitted = self._executor.map_array(Resumable(), array)
                handles |= dict(zip((job.out for job in array), submitted, strict=True))
        return handles

    def _submitted(self) -> dict[str, str]:
        """The number of the job that was last queued for each run folder."""
        path = self.folder / "submitted.json"
        if not path.exists():
            return {}
        numbers: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return numbers

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
                if error := _error_of(handle):
                    future.set_exception(error)
                else:
                    future.set_result(None)
            time.sleep(self.every)

    def _lost(self, number: str, queued: set[str] | None) -> bool:
        """Whether a job has been out of the queue for some time.

        Cancelled, or killed with its node.
        """
        if queued is None or number in queued:
            self._missing_since.pop(number, None)
            return False
        now = time.monotonic()
        return now - self._missing_since.setdefault(number, now) > max(LOST, 3 * self.every)


def _error_of(handle: Any) -> BaseException | None:
    """Why a job that ended has failed; None if it succeeded."""
    try:
        if not handle.done():
            return RuntimeError(f"job {handle.job_id} left the queue without a result")
        error: BaseException | None = handle.exception()
        return error
    except Exception as unreadable:
        return unreadable


def _resource_key(job: Job) -> str:
    return json.dumps(job.resources, sort_keys=True)


def _queued() -> set[str] | None:
    """Numbers of the jobs in the queue; None if squeue fails."""
    command = ["squeue", "-h", "-r", "-o", "%i"]
    queue = subprocess.run(command, capture_output=True, text=True, check=False)
    return set(queue.stdout.split()) if queue.returncode == 0 else None
