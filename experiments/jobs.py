"""Runs on one machine: what is finished is not repeated, what was cut off goes on, one that fails stops no other."""

import contextlib
import json
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TextIO, TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Key = TypeVar("Key")


class Job(NamedTuple):
    """A run that is trained and tested.

    Attributes:
        out: Its folder; its log stands beside.
        fit: Options of `mtl fit`; None where nothing is trained.
        test: Options of `mtl test`; its own checkpoint is tested where None.
        tested: Whether it is tested at all.
        command: What is done in place of `fit`.
    """

    out: Path
    fit: tuple[str, ...] | None
    test: tuple[str, ...] | None = None
    tested: bool = True
    command: str = "fit"

    @property
    def finished(self) -> bool:
        """Whether all of it is done."""
        if self.command == "score-prototypes":
            return (self.out / "scores.json").exists()
        found = metrics(self.out)
        return ("test" if self.tested else "validation") in found

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return Path(f"{self.out}.log")


class Machine(Protocol):
    """Where jobs run."""

    about: str

    def submit(self, jobs: Sequence[Job]) -> "Sequence[Future[None]]":
        """Takes jobs that need nothing more."""

    def close(self) -> None:
        """Ends what is left."""


class Local:
    """This machine: as many processes as fit.

    Args:
        at_once: Processes; as many as there are GPUs, each with one of its own, else as there are cores, where absent.
    """

    def __init__(self, at_once: int | None = None) -> None:
        gpus = visible_gpus()
        count = at_once or len(gpus) or cores()
        context = get_context("spawn")
        devices: Queue[str] | None = context.Queue() if gpus else None
        for worker in range(count if devices else 0):
            devices.put(gpus[worker % len(gpus)])  # type: ignore[union-attr]
        self.about = f"{count} at a time"
        self._threads = max(1, cores() // count)
        self._pool = ProcessPoolExecutor(count, context, initializer=begin, initargs=(os.getpid(), self._threads, devices))

    def submit(self, jobs: Sequence[Job]) -> Sequence[Future[None]]:
        """Puts jobs in the line."""
        return [self._pool.submit(work, job) for job in jobs]

    def close(self) -> None:
        """Waits for what runs, and starts nothing more."""
        self._pool.shutdown(cancel_futures=True)


def metrics(out: Path) -> dict[str, Any]:
    """A run's `metrics.json`; empty where there is none."""
    path = out / "metrics.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def run_all(jobs: Sequence[Job], at_once: int | None = None) -> list[Job]:
    """Does what is not finished; gives the jobs that failed.

    Args:
        jobs: The jobs, none of which needs another.
        at_once: How many at a time; as many as fit where absent.
    """
    failed = run_graph(dict(enumerate(jobs)), lambda _: (), lambda key: jobs[key], Local(at_once))
    return [jobs[key] for key in failed]


def run_graph(
    keys: Sequence[Key] | dict[Key, Any],
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
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    left, done = list(keys), set[Key]()
    failed: dict[Key, str] = {}
    running: dict[Future[None], tuple[Key, Job]] = {}
    try:
        # Runs take minutes: the estimate is of all that have ended, not of the last half minute.
        with Progress(*columns, speed_estimate_period=7 * 86400) as progress:
            bar = progress.add_task(f"runs, {machine.about}", total=len(left))
            while left or running:
                ready: list[tuple[Key, Job]] = []
                for key in list(left):
                    if missing := [need for need in needs(key) if need in failed]:
                        failed[key] = f"needs another that failed: {failed[missing[0]]}"
                    elif all(need in done for need in needs(key)):
                        try:
                            job = job_of(key)
                        except (Exception, SystemExit) as error:  # options that cannot be read
                            failed[key] = f"its options cannot be used: {error}"
                            left.remove(key)
                            continue
                        if job.finished:
                            done.add(key)
                        else:
                            ready.append((key, job))
                    else:
                        continue
                    left.remove(key)
                running |= dict(zip(machine.submit([job for _, job in ready]) if ready else [], ready, strict=True))
                progress.update(bar, completed=len(done) + len(failed))
                if running:
                    ended, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in ended:
                        key, job = running.pop(future)
                        if future.exception() or not job.finished:
                            failed[key] = str(job.log)
                        else:
                            done.add(key)
                    progress.update(bar, completed=len(done) + len(failed))
    finally:
        machine.close()
    return failed


def begin(parent: int, threads: int, devices: "Queue[str] | None" = None) -> None:
    """Prepares a worker: it ends with its parent, has its share of the cores, and a GPU where there are any.

    Killed, a command must not leave one behind that writes into the same runs.

    Args:
        parent: The parent's process id.
        threads: Threads of a run.
        devices: The GPUs, of which the worker takes one.
    """
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices.get()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)


def work(job: Job) -> None:
    """What `mtl fit` and `mtl test` do, in a process that has the libraries loaded already; output goes to a log."""
    import lightning.pytorch  # noqa: F401  (so that its loggers are there to be redirected)
    import torch

    from mtl.__main__ import main

    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    quiet = ("--trainer.enable_progress_bar", "false")
    begun = ("--ckpt_path", "last") if (job.out / "checkpoints" / "last.ckpt").exists() else ()
    job.out.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a", encoding="utf-8") as log, quietly(log):
        if job.command == "score-prototypes":
            main([job.command, *(job.fit or ()), *quiet, "--out", str(job.out)])
            return
        if job.fit is not None and not (job.out / "metrics.json").exists():
            main(["fit", *job.fit, *quiet, "--out", str(job.out), *begun])
        if job.tested:
            given = (*(job.test or ("--ckpt_path", str(job.out))), *where_it_ran(job.fit or ()))
            main(["test", *given, *quiet, "--out", str(job.out)])


def where_it_ran(fit: Sequence[str]) -> list[str]:
    """Of the options of a training those that say on what: its test runs there too, with as many processes."""
    names = tuple(f"--trainer.{name}" for name in ("accelerator", "devices", "num_nodes", "strategy", "precision"))
    return [word for option, value in pairwise(fit) if option in names for word in (option, value)]


@contextlib.contextmanager
def quietly(log: TextIO) -> Iterator[None]:
    """Everything that is printed or logged goes to the log; a refusal of the command becomes an error."""
    for name in ("lightning.fabric", "lightning.pytorch"):  # they hold on to what stderr was when they were imported
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.stream = log  # not `setStream`, which flushes the log before, closed by now
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            yield
        except SystemExit as error:
            if error.code != 2:  # not ours: a cluster that wants the node has queued the run again
                raise
            raise RuntimeError(f"the command ended with {error.code}") from error
        except Exception:
            traceback.print_exc()
            raise


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    return [str(place) for place in range(torch.cuda.device_count())]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fast_precision() -> str:
    """bf16 products where the processor or the GPU has them; elsewhere they would be slow."""
    import torch

    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    able = torch.cpu.get_capabilities()
    return "bf16-mixed" if able.get("amx_bf16") or able.get("avx512_bf16") else "32-true"
