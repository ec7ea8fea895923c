import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TextIO

import pytest

from experiments import local_executor
from experiments.jobs import Job, quietly, work
from experiments.scheduler import run_graph


@pytest.fixture
def handler() -> Iterator[logging.StreamHandler[TextIO]]:
    """As Lightning adds one, where nobody else listens as pytest does."""
    made = logging.StreamHandler()
    logging.getLogger("lightning.pytorch").addHandler(made)
    yield made
    logging.getLogger("lightning.pytorch").removeHandler(made)


@pytest.mark.usefixtures("handler")
def test_what_jobs_log_goes_to_their_own_files_one_after_the_other(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        with (tmp_path / name).open("w") as log, quietly(log):
            logging.getLogger("lightning.pytorch").warning("said by %s", name)
            print(f"printed by {name}")
    for name in ("one", "two", "three"):
        text = (tmp_path / name).read_text()
        assert f"said by {name}" in text and text.endswith(f"printed by {name}\n")
        assert not any(f"by {other}" in text for other in {"one", "two", "three"} - {name})


def test_what_goes_wrong_stands_in_the_log(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log, pytest.raises(ZeroDivisionError), quietly(log):
        _ = 1 / 0
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()
    with (
        (tmp_path / "log").open("w") as log,
        pytest.raises(RuntimeError, match="ended with 2"),
        quietly(log),
    ):
        raise SystemExit(2)


def test_a_job_is_trained_tested_and_then_finished(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    words = (
        f"--tasks+={task_files[0]}",
        "--backbone",
        backbone,
        "--trainer.accelerator",
        "cpu",
        "--trainer.max_epochs",
        "1",
    )
    job = Job(in_tmp / "runs/one", words)
    assert not job.finished
    work(job)
    assert job.finished
    assert "test" in json.loads((job.out / "metrics.json").read_text())


COMMAND = """
import os, sys, time
from multiprocessing import get_context
from experiments.local_executor import Local, end_with_parent

def child() -> None:
    end_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(60)

if __name__ == "__main__":
    context = Local(1)._context
    context.set_forkserver_preload([])
    process = context.Process(target=child)
    process.start()
    process.join()
"""


def test_a_run_ends_with_its_killed_command(tmp_path: Path) -> None:
    (tmp_path / "command.py").write_text(COMMAND)
    words = [sys.executable, str(tmp_path / "command.py")]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as command:
        assert command.stdout is not None
        child = int(command.stdout.readline())
        command.kill()
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if (
            Path(f"/proc/{child}/stat").exists()
            and Path(f"/proc/{child}/stat").read_text().split()[2] == "Z"
        ):
            return  # ended; nobody has asked for its exit status yet
        time.sleep(0.1)
    raise AssertionError("the worker goes on")


def test_a_run_of_two_devices_gets_two_gpus_however_many_runs_share_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_executor, "visible_gpus", lambda: ["0", "1"])
    monkeypatch.setattr(
        local_executor.Local, "_start", lambda self, job, threads, gpus: given.append(gpus)
    )
    given: list[list[str]] = []
    machine = local_executor.Local(4)
    sizes = ("1", "2", "3")
    [
        future.result()
        for future in machine.submit(
            [Job(tmp_path / size, ("--trainer.devices", size)) for size in sizes]
        )
    ]
    machine.close()
    assert [len(gpus) for gpus in sorted(given, key=len)] == [1, 2, 2]  # there is no third one
    assert all(len(set(gpus)) == len(gpus) for gpus in given)
    alone = local_executor.Local(1)
    alone.submit([Job(tmp_path / "both", ("--trainer.devices", "1", "--trainer.devices=2"))])[
        0
    ].result()
    alone.close()
    assert given[-1] == ["0", "1"]


class Here:
    """A machine that does jobs at once, in this process, and notes them."""

    about = "here"

    def __init__(self) -> None:
        self.done: list[str] = []

    def submit(self, jobs: Sequence[Job]) -> list[Future[None]]:
        futures = []
        for job in jobs:
            self.done.append(job.out.name)
            futures.append(Future[None]())
            if job.out.name.startswith("bad"):
                futures[-1].set_exception(RuntimeError("bad"))
                continue
            job.out.mkdir(parents=True)
            (job.out / "metrics.json").write_text('{"test": {}}')
            futures[-1].set_result(None)
        return futures

    def close(self) -> None:
        self.done.append("closed")


def test_runs_wait_for_those_that_they_need_and_a_failure_stops_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs = {"a": [], "bad": [], "b": ["a"], "c": ["bad"], "d": ["c", "a"], "e": ["b"]}
    machine = Here()
    failed = run_graph(
        list(needs), needs.__getitem__, lambda name: Job(tmp_path / name, ()), machine
    )
    assert machine.done == ["a", "bad", "b", "e", "closed"]
    assert set(failed) == {"bad", "c", "d"}
    assert failed["bad"] == str(tmp_path / "bad.log")
    said = capsys.readouterr().out.splitlines()  # no terminal, so a line for each
    assert said[:3] == [
        "1/6 a",
        f"2/6 bad: failed, see {tmp_path / 'bad.log'}",
        "5/6 b",
    ]  # `c` and `d` need `bad`
    assert (
        failed["d"]
        == f"needs another that failed: needs another that failed: {tmp_path / 'bad.log'}"
    )
    again = Here()
    run_graph(["a", "b"], needs.__getitem__, lambda name: Job(tmp_path / name, ()), again)
    assert again.done == ["closed"]  # what is finished is not repeated


def test_a_run_that_leaves_no_metrics_has_failed(tmp_path: Path) -> None:
    class Silent(Here):
        def submit(self, jobs: Sequence[Job]) -> list[Future[None]]:
            futures = [Future[None]() for _ in jobs]
            for future in futures:
                future.set_result(None)
            return futures

    assert set(run_graph(["a"], lambda _: (), lambda name: Job(tmp_path / name, ()), Silent())) == {
        "a"
    }
