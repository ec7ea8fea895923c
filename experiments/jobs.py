"""Many runs on one machine: what is finished is not repeated, what was cut off goes on, one that fails stops no other."""

import contextlib
import json
import logging
import os
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Job(NamedTuple):
    """A run that is trained and tested.

    Attributes:
        out: Its folder; its log stands beside.
        fit: Options of `mtl fit`; None where nothing is trained.
        test: Options of `mtl test`; its own checkpoint is tested where None.
        tested: Whether it is tested at all.
    """

    out: Path
    fit: tuple[str, ...] | None
    test: tuple[str, ...] | None = None
    tested: bool = True

    @property
    def finished(self) -> bool:
        """Whether all of it is done."""
        found = metrics(self.out)
        return ("test" if self.tested else "validation") in found


def metrics(out: Path) -> dict[str, Any]:
    """A run's `metrics.json`; empty where there is none."""
    path = out / "metrics.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def run_all(jobs: Sequence[Job], at_once: int) -> list[Job]:
    """Does what is not finished; gives the jobs that failed.

    Args:
        jobs: The jobs.
        at_once: How many at a time.
    """
    left = [job for job in jobs if not job.finished]
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    failed = []
    workers = ProcessPoolExecutor(at_once, get_context("spawn"), initializer=end_with, initargs=(os.getpid(),))
    with workers as pool, Progress(*columns) as progress:
        bar = progress.add_task(f"training, {at_once} at a time", total=len(jobs), completed=len(jobs) - len(left))
        waiting: dict[Future[None], Job] = {pool.submit(work, job, at_once): job for job in left}
        for future in as_completed(waiting):
            if future.exception():
                failed.append(waiting[future])
            progress.advance(bar)
    return failed


def end_with(parent: int) -> None:
    """Ends this process when its parent has ended: killed, it must not leave one behind that writes into the same runs.

    Args:
        parent: The parent's process id.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def work(job: Job, at_once: int) -> None:
    """What `mtl fit` and `mtl test` do, in a process that has the libraries loaded already; output goes to a log."""
    import lightning.pytorch  # noqa: F401  (so that its loggers are there to be redirected)
    import torch

    from mtl.__main__ import main

    torch.set_num_threads(max(1, cores() // at_once))
    quiet = ("--trainer.enable_progress_bar", "false")
    begun = ("--ckpt_path", "last") if (job.out / "checkpoints" / "last.ckpt").exists() else ()
    job.out.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{job.out}.log").open("a", encoding="utf-8") as log, quietly(log):
        if job.fit is not None and not (job.out / "metrics.json").exists():
            main(["fit", *job.fit, *quiet, "--out", str(job.out), *begun])
        if job.tested:
            main(["test", *(job.test or ("--ckpt_path", str(job.out))), *quiet, "--out", str(job.out)])


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
            raise RuntimeError(f"the command ended with {error.code}") from error
        except Exception:
            traceback.print_exc()
            raise


def available_jobs() -> int:
    """One run at a time where there is a GPU, else one for each core."""
    import torch

    return 1 if torch.cuda.is_available() else cores()


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
