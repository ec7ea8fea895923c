"""A run as a job: its command line, when it is finished.

And how it is trained and tested in this process.
"""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from mtl.compare.redirection import redirect_output
from mtl.training.run_folder import check_links, is_interrupted, read_metrics, write_atomic

# The file in a run folder with the seconds that its job took.
DURATION = "duration.json"
QUIET = ("--trainer.enable_progress_bar", "false")


class Job(NamedTuple):
    """A run to train and test.

    Attributes:
        out: Its folder. The log is the file `OUT.log` next to it.
        fit: Options of `mtl fit`; None if nothing is trained.
        test: Options of `mtl test`; None to test the run's own checkpoint.
        tested: Whether the run is tested.
        command: The training command.
        resources: Cluster resources that differ from the defaults, by submitit's names.
    """

    out: Path
    fit: tuple[str, ...] | None
    test: tuple[str, ...] | None = None
    tested: bool = True
    command: str = "fit"
    resources: dict[str, Any] = {}  # noqa: RUF012  (a NamedTuple's default, never changed)

    @property
    def finished(self) -> bool:
        """Whether the run's folder has all results."""
        if self.command == "score-prototypes":
            return "scores" in read_results(self.out)
        return ("test" if self.tested else "validation") in read_results(self.out)

    @property
    def log(self) -> Path:
        """The file of the job's output."""
        return Path(f"{self.out}.log")


def read_results(out: Path) -> dict[str, Any]:
    """The results in a run's folder: `metrics.json`, or `scores.json` of prototypical scores.

    Empty if there is neither.
    """
    if metrics := read_metrics(out):
        return metrics
    path = out / "scores.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def job_seconds(out: Path) -> float:
    """How long a finished job took: start, training and test; 0 if it was not a comparison's."""
    path = out / DURATION
    return float(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else 0.0


def run_job(job: Job) -> None:
    """Trains and tests a job in this process, as `mtl fit` and `mtl test` do.

    Output goes to the job's log.

    In a run of several cluster processes each of them trains, and the first one tests.
    """
    import torch

    import mtl.cli.lightning  # noqa: F401  (creates the libraries' loggers, whose handlers are redirected)
    from mtl.data.data_warnings import without_data_warnings

    # torch would start threads for all cores of the node, but the cluster gives a run only some of
    # them.
    if threads := os.environ.get("OMP_NUM_THREADS") or os.environ.get("SLURM_CPUS_PER_TASK"):
        torch.set_num_threads(int(threads))
    rank = int(os.environ.get("SLURM_PROCID", 0))
    job.out.mkdir(parents=True, exist_ok=True)
    log_path = Path(f"{job.log}.{rank}") if rank else job.log
    start = time.monotonic()
    with log_path.open("a", encoding="utf-8") as log, redirect_output(log), exclusive(job.out):
        if not job.finished:
            with without_data_warnings():  # the comparison has printed them
                _train(job)
                if job.tested and rank == 0:
                    _test(job, log)
            if rank == 0:
                write_atomic(job.out / DURATION, json.dumps(round(time.monotonic() - start, 1)))
            if rank == 0 and not job.test:
                # The optimizer state takes three quarters of a run's disk space, and no run resumes
                # from a finished one.
                (job.out / "checkpoints" / "last.ckpt").unlink(missing_ok=True)


def _train(job: Job) -> None:
    if job.fit is None or (job.out / "metrics.json").exists():
        return
    resume = ("--ckpt_path", "last") if is_interrupted(job.out) else ()
    run_command(job.command, *job.fit, *QUIET, "--out", str(job.out), *resume)


def _test(job: Job, log: TextIO) -> None:
    options = [*(job.test or ("--ckpt_path", str(job.out))), *hardware_options(job.fit or ())]
    arguments = ["test", *options, *QUIET, "--out", str(job.out)]
    if not is_distributed(job.fit or ()):
        from mtl.cli.class_options import named_values
        from mtl.training.stored_config import import_named_classes

        # The checkpoint may hold a class of the user's, which the training options name.
        import_named_classes(named_values(job.fit or ()))
        run_command(*arguments)
        return
    # A single process tests, so it must not see the variables that connect the training processes.
    distributed = ("SLURM_", "MASTER_", "WORLD_SIZE", "NODE_RANK", "LOCAL_RANK", "RANK")
    env = {name: value for name, value in os.environ.items() if not name.startswith(distributed)}
    command = [sys.executable, "-m", "mtl", *arguments]
    subprocess.run(command, env=env, stdout=log, stderr=log, check=True)


def run_command(*arguments: str) -> None:
    """Runs `mtl ARGUMENTS` in this process.

    Lightning starts the other processes of a distributed run from `sys.argv` and the spec of
    `__main__`, so both are those of the `mtl` command while it runs.
    """
    from mtl.__main__ import main

    main_module = sys.modules["__main__"]
    before = sys.argv, main_module.__spec__
    sys.argv, main_module.__spec__ = ["mtl", *arguments], importlib.util.find_spec("mtl.__main__")
    try:
        main(list(arguments))
    finally:
        sys.argv, main_module.__spec__ = before


@contextlib.contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Context manager: only one command at a time works on a run, and within its folder only.

    The processes of one distributed run share it.
    """
    from filelock import FileLock, Timeout

    check_links(out)
    if _slurm_processes() > 1:
        yield
        return
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print("another command works on this run: waiting for it", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def hardware_options(fit: Sequence[str]) -> list[str]:
    """The training options that name the accelerator and the precision.

    The test uses the same, in one process.
    """
    names = ("--trainer.accelerator", "--trainer.precision")
    return [arg for option, value in pairwise(fit) if option in names for arg in (option, value)]


def device_count(fit: Sequence[str]) -> int:
    """The number of devices per node in training options (the last one counts). Default: 1."""
    counts = [
        argument.partition("=")[2] or following
        for argument, following in pairwise([*fit, ""])
        if argument.partition("=")[0] == "--trainer.devices"
    ]
    return int(counts[-1]) if counts and counts[-1].isdigit() else 1


def is_distributed(fit: Sequence[str]) -> bool:
    """Whether several processes train."""
    return device_count(fit) > 1 or _slurm_processes() > 1


def _slurm_processes() -> int:
    return int(os.environ.get("SLURM_NTASKS", 1))
