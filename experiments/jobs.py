"""A run as a job: what it is made of, when it is finished, and the doing of it."""

import contextlib
import importlib.util
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TextIO


class Job(NamedTuple):
    """A run that is trained and tested.

    Attributes:
        out: Its folder; its log stands beside.
        fit: Options of `mtl fit`; None where nothing is trained.
        test: Options of `mtl test`; its own checkpoint is tested where None.
        tested: Whether it is tested at all.
        command: What is done in place of `fit`.
        resources: What it gets on a cluster that other runs do not, by submitit's names.
    """

    out: Path
    fit: tuple[str, ...] | None
    test: tuple[str, ...] | None = None
    tested: bool = True
    command: str = "fit"
    resources: dict[str, Any] = {}  # noqa: RUF012  (a NamedTuple's default, never changed)

    @property
    def finished(self) -> bool:
        """Whether all of it is done."""
        wanted = (
            "scores"
            if self.command == "score-prototypes"
            else "test"
            if self.tested
            else "validation"
        )
        return wanted in metrics(self.out)

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return Path(f"{self.out}.log")


def metrics(out: Path) -> dict[str, Any]:
    """What a run says of itself: `metrics.json`, or `scores.json` of prototypical scores; empty where there is neither."""
    path = next(
        (path for name in ("metrics.json", "scores.json") if (path := out / name).exists()), None
    )
    return json.loads(path.read_text(encoding="utf-8")) if path else {}


def work(job: Job) -> None:
    """What `mtl fit` and `mtl test` do, in a process that has the libraries loaded already; output goes to a log.

    In one of several processes of a cluster that train together it does its part, and the first one tests.
    """
    import torch

    import mtl.cli.lightning  # noqa: F401  (so that the libraries' loggers are there to be redirected)

    # A cluster gives a run some of a node's cores, and torch would take threads for all of them.
    if threads := os.environ.get("OMP_NUM_THREADS") or os.environ.get("SLURM_CPUS_PER_TASK"):
        torch.set_num_threads(int(threads))
    rank = int(os.environ.get("SLURM_PROCID", 0))
    job.out.mkdir(parents=True, exist_ok=True)
    log_path = Path(f"{job.log}.{rank}") if rank else job.log
    with log_path.open("a", encoding="utf-8") as log, quietly(log), alone_at(job.out):
        if not job.finished:
            _trained(job)
            if job.tested and rank == 0:
                _tested(job, log)
            if rank == 0 and not job.test:
                # Its optimiser's state is three quarters of a run's disk, and nothing goes on from a run that has ended.
                (job.out / "checkpoints" / "last.ckpt").unlink(missing_ok=True)


def _trained(job: Job) -> None:
    begun = ("--ckpt_path", "last") if (job.out / "checkpoints" / "last.ckpt").exists() else ()
    if job.fit is not None and not (job.out / "metrics.json").exists():
        command(job.command, *job.fit, *QUIET, "--out", str(job.out), *begun)


def _tested(job: Job, log: TextIO) -> None:
    words = [
        "test",
        *(job.test or ("--ckpt_path", str(job.out))),
        *where_it_ran(job.fit or ()),
        *QUIET,
        "--out",
        str(job.out),
    ]
    if not spans(job.fit or ()):
        command(*words)
        return
    # One process tests; what the training's processes were told of one another is not for it.
    others = ("SLURM_", "MASTER_", "WORLD_SIZE", "NODE_RANK", "LOCAL_RANK", "RANK")
    alone = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    subprocess.run(
        [sys.executable, "-m", "mtl", *words], env=alone, stdout=log, stderr=log, check=True
    )


QUIET = ("--trainer.enable_progress_bar", "false")


def command(*words: str) -> None:
    """What `mtl WORDS` does, in this process.

    To Lightning, which starts the further processes of a run by the words of the first, this one is that command.
    """
    from mtl.__main__ import main

    this = sys.modules["__main__"]
    before = sys.argv, this.__spec__
    sys.argv, this.__spec__ = ["mtl", *words], importlib.util.find_spec("mtl.__main__")
    try:
        main(list(words))
    finally:
        sys.argv, this.__spec__ = before


@contextlib.contextmanager
def alone_at(out: Path) -> Iterator[None]:
    """Waits until no other command is at the same run. The processes of one run that spans several are not kept apart."""
    from filelock import FileLock, Timeout

    if int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        yield
        return
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print("another command is at this run: waiting for it", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def where_it_ran(fit: Sequence[str]) -> list[str]:
    """Of the options of a training those that say on what: its test runs there too, in one process."""
    names = ("--trainer.accelerator", "--trainer.precision")
    return [word for option, value in pairwise(fit) if option in names for word in (option, value)]


def devices(fit: Sequence[str]) -> int:
    """Devices of one machine that a training takes: what its options say last; one where they do not."""
    option = "--trainer.devices"
    said = [
        word.partition("=")[2] or after
        for word, after in pairwise([*fit, ""])
        if word.partition("=")[0] == option
    ]
    return int(said[-1]) if said and said[-1].isdigit() else 1


def spans(fit: Sequence[str]) -> bool:
    """Whether a training is of several processes."""
    return devices(fit) > 1 or int(os.environ.get("SLURM_NTASKS", 1)) > 1


@contextlib.contextmanager
def quietly(log: TextIO) -> Iterator[None]:
    """Everything that is printed or logged goes to the log; a refusal of the command becomes an error."""
    # Libraries' handlers hold on to what stderr was when they were imported.
    loggers = [
        logger
        for logger in logging.root.manager.loggerDict.values()
        if isinstance(logger, logging.Logger)
    ]
    handlers = [
        handler
        for logger in loggers
        for handler in logger.handlers
        if type(handler) is logging.StreamHandler
    ]
    before = [handler.stream for handler in handlers]
    for handler in handlers:
        handler.stream = (
            log  # not `setStream`, which flushes what stood there, and may be closed by now
        )
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
        finally:
            for handler, stream in zip(handlers, before, strict=True):
                handler.stream = stream
