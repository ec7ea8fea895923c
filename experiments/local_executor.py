"""Runs on this machine: a process for each, as many at a time as fit."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle, islice
from multiprocessing import get_all_start_methods, get_context, parent_process
from typing import Any

from experiments.jobs import Job, devices, work
from mtl.system.hardware import cores

# Imported once, before the runs' processes are parted from it.
PRELOADED = ["mtl.cli.lightning"]


class Local:
    """This machine: as many runs at a time as it has GPUs, each with one of its own, else as it has cores.

    A run is a process of its own: one that is killed, for want of memory say, ends no other.

    Args:
        at_once: Runs at a time, where it shall be another number; GPUs are then shared.
    """

    def __init__(self, at_once: int | None = None) -> None:
        gpus = visible_gpus()
        count = at_once or len(gpus) or cores()
        self.about = f"{count} at a time"
        # A GPU's name, or nothing, as often as runs may use it at a time; a run that spans several may have every one.
        self._free = list(islice(cycle(gpus or [""]), max(count, len(gpus))))
        self._most = len(gpus) or count
        self._change = threading.Condition()
        self._threads = max(1, cores() // count)
        self._pool = ThreadPoolExecutor(count)
        self._context: Any = get_context(
            "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
        )
        self._context.set_forkserver_preload(PRELOADED)

    def submit(self, jobs: Sequence[Job]) -> Sequence[Future[None]]:
        """Puts jobs in the line."""
        return [self._pool.submit(self._run, job) for job in jobs]

    def close(self) -> None:
        """Waits for what runs, and starts nothing more."""
        self._pool.shutdown(cancel_futures=True)

    def _choice(self) -> list[str]:
        """What a run may have of what is free: of GPUs each one once."""
        return [gpu for gpu in dict.fromkeys(self._free) if gpu] or list(self._free)

    def _run(self, job: Job) -> None:
        wanted = min(devices(job.fit or ()), self._most)
        with self._change:
            self._change.wait_for(lambda: len(self._choice()) >= wanted)
            taken = self._choice()[:wanted]
            for place in taken:
                self._free.remove(place)
        try:
            self._start(job, self._threads * wanted, [gpu for gpu in taken if gpu])
        finally:
            with self._change:
                self._free += taken
                self._change.notify_all()

    def _start(self, job: Job, threads: int, gpus: list[str]) -> None:
        process = self._context.Process(target=alone, args=(job, threads, gpus))
        process.start()
        process.join()
        if process.exitcode < 0:  # killed, so that it could not say why
            with job.log.open("a", encoding="utf-8") as log:
                log.write(
                    f"the run's process was ended by {signal.Signals(-process.exitcode).name}; is there enough memory?\n"
                )
        if process.exitcode:
            raise RuntimeError(f"see {job.log}")


def alone(job: Job, threads: int, gpus: Sequence[str]) -> None:
    """What a run's process does.

    Args:
        job: The run.
        threads: Threads that it may use.
        gpus: GPUs that it may use; empty where there are none.
    """
    end_with_parent()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        work(job)
    except Exception:  # it stands in the log
        sys.exit(1)


def end_with_parent() -> None:
    """Ends this process when the command that started it has ended: none is left behind that computes for nobody.

    The command is not the parent by the system's account, which is the server that forks.
    """
    command = parent_process()
    assert command is not None

    def watch() -> None:
        command.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    return [str(place) for place in range(torch.cuda.device_count())]
