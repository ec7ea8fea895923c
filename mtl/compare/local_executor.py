"""Runs jobs on this machine: one process per job, as many at a time as fit."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle, islice
from multiprocessing import get_all_start_methods, get_context, parent_process
from typing import Any

from mtl.compare.jobs import Job, device_count, run_job
from mtl.system.hardware import cores

# Imported once by the fork server, from which the processes of all jobs are forked.
PRELOADED = ["mtl.cli.lightning"]


class LocalExecutor:
    """Runs one job per GPU at a time; on a machine without GPUs, one per core.

    Each job has its own process, so that a killed job (out of memory, for example) does not end the
    others.

    Args:
        at_once: Number of jobs that run at a time; GPUs are shared if it is larger than their
            number. Default: one per GPU, or per core.
    """

    def __init__(self, at_once: int | None = None) -> None:
        gpus = visible_gpus()
        count = at_once or len(gpus) or cores()
        self.about = f"{count} at a time"
        # Slots: a GPU's name, or "" without GPUs, as often as jobs may use it at a time. A job may
        # span all GPUs.
        self._free = list(islice(cycle(gpus or [""]), max(count, len(gpus))))
        self._max_devices = len(gpus) or count
        self._slots_changed = threading.Condition()
        self._threads = threads_per_run(count)
        self._pool = ThreadPoolExecutor(count)
        self._context = run_context()

    def submit(self, jobs: Sequence[Job]) -> Sequence[Future[None]]:
        """Queues jobs."""
        return [self._pool.submit(self._run, job) for job in jobs]

    def close(self) -> None:
        """Waits for the running jobs, and starts no more."""
        self._pool.shutdown(cancel_futures=True)

    def _available(self) -> list[str]:
        """The free slots that one job may take: each GPU once."""
        return [gpu for gpu in dict.fromkeys(self._free) if gpu] or list(self._free)

    def _run(self, job: Job) -> None:
        wanted = min(device_count(job.fit or ()), self._max_devices)
        with self._slots_changed:
            self._slots_changed.wait_for(lambda: len(self._available()) >= wanted)
            slots = self._available()[:wanted]
            for slot in slots:
                self._free.remove(slot)
        try:
            self._start(job, self._threads * wanted, [gpu for gpu in slots if gpu])
        finally:
            with self._slots_changed:
                self._free += slots
                self._slots_changed.notify_all()

    def _start(self, job: Job, threads: int, gpus: list[str]) -> None:
        process = self._context.Process(target=run_in_process, args=(job, threads, gpus))
        process.start()
        process.join()
        if process.exitcode < 0:  # killed, so the process itself could not write to the log
            name = signal.Signals(-process.exitcode).name
            with job.log.open("a", encoding="utf-8") as log:
                log.write(f"the run's process was ended by {name}; is there enough memory?\n")
        if process.exitcode:
            raise RuntimeError(f"see {job.log}")


def threads_per_run(at_once: int) -> int:
    """Number of threads of each run if that many share the cores."""
    return max(1, cores() // at_once)


def run_context() -> Any:
    """The multiprocessing context of the processes of runs, which start with imported libraries."""
    context: Any = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
    context.set_forkserver_preload(PRELOADED)
    return context


def run_in_process(job: Job, threads: int, gpus: Sequence[str]) -> None:
    """The main function of a job's process.

    Args:
        job: The job.
        threads: Number of threads that it may use.
        gpus: GPUs that it may use; empty without GPUs.
    """
    end_with_parent()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        run_job(job)
    except Exception:  # its traceback is in the log
        sys.exit(1)


def end_with_parent() -> None:
    """Ends this process when the command that started it ends, so that no orphan keeps computing.

    `parent_process` is that command, although the operating system's parent is the fork server.
    """
    command = parent_process()
    assert command is not None

    def exit_after_parent() -> None:
        command.join()
        os._exit(1)

    threading.Thread(target=exit_after_parent, daemon=True).start()


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use."""
    import torch

    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is not None:
        return [name for name in names.split(",") if name]
    return [str(index) for index in range(torch.cuda.device_count())]
