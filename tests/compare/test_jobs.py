import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import pytest

from mtl.compare import local_executor
from mtl.compare.engine import run_comparison
from mtl.compare.jobs import Job, run_job
from mtl.compare.local_executor import LocalExecutor
from mtl.compare.redirection import redirect_output
from mtl.compare.scheduler import run_graph
from mtl.errors import UserError


@pytest.fixture
def handler() -> Iterator[logging.StreamHandler[TextIO]]:
    """A handler such as Lightning adds when no other handler is configured."""
    stream_handler = logging.StreamHandler()
    logging.getLogger("lightning.pytorch").addHandler(stream_handler)
    yield stream_handler
    logging.getLogger("lightning.pytorch").removeHandler(stream_handler)


@pytest.mark.usefixtures("handler")
def test_the_output_of_each_job_goes_to_its_own_log(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        with (tmp_path / name).open("w") as log, redirect_output(log):
            logging.getLogger("lightning.pytorch").warning("logged by %s", name)
            print(f"printed by {name}")
    for name in ("one", "two", "three"):
        text = (tmp_path / name).read_text()
        assert f"logged by {name}" in text and text.endswith(f"printed by {name}\n")
        assert not any(f"by {other}" in text for other in {"one", "two", "three"} - {name})


def test_errors_are_in_the_log(tmp_path: Path) -> None:
    with (
        (tmp_path / "log").open("w") as log,
        pytest.raises(ZeroDivisionError),
        redirect_output(log),
    ):
        _ = 1 / 0
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()
    with (
        (tmp_path / "log").open("w") as log,
        pytest.raises(RuntimeError, match="ended with 2"),
        redirect_output(log),
    ):
        raise SystemExit(2)


def test_a_comparison_writes_nothing_through_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "runs"
    for folder, link in ((root / "run", "checkpoints"), (root / "tables" / "own-mini", "logs")):
        folder.mkdir(parents=True)
        (folder / link).symlink_to(outside)
    with pytest.raises(UserError, match=r"run/checkpoints is a link to .*outside"):
        run_job(Job(root / "run", fit=("--tasks=[]",)))
    assert "and the command would write there" in (root / "run.log").read_text()
    plan: Any = SimpleNamespace(size_name="mini", extra_options=())
    with pytest.raises(UserError, match=r"own-mini/logs is a link to .*outside of .*runs"):
        run_comparison("own.yaml", plan, root=root, make_executor=LocalExecutor)
    assert not list(outside.iterdir())


def test_a_job_is_finished_after_training_and_testing(
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
    run_job(job)
    assert job.finished
    assert "test" in json.loads((job.out / "metrics.json").read_text())


COMMAND = """
import os, sys, time
from multiprocessing import get_context
from mtl.compare.local_executor import LocalExecutor, end_with_parent

def child() -> None:
    end_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(60)

if __name__ == "__main__":
    context = LocalExecutor(1)._context
    context.set_forkserver_preload([])
    process = context.Process(target=child)
    process.start()
    process.join()
"""


def test_a_run_ends_when_its_command_is_killed(tmp_path: Path) -> None:
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
            return  # a zombie: it has ended
        time.sleep(0.1)
    raise AssertionError("the worker is still running")


def test_a_run_of_two_devices_gets_two_gpus_even_if_runs_share_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_executor, "visible_gpus", lambda: ["0", "1"])
    monkeypatch.setattr(
        local_executor.LocalExecutor,
        "_start",
        lambda self, job, threads, gpus: assigned.append(gpus),
    )
    assigned: list[list[str]] = []
    executor = local_executor.LocalExecutor(4)
    sizes = ("1", "2", "3")
    [
        future.result()
        for future in executor.submit(
            [Job(tmp_path / size, ("--trainer.devices", size)) for size in sizes]
        )
    ]
    executor.close()
    assert [len(gpus) for gpus in sorted(assigned, key=len)] == [1, 2, 2]  # there are only two GPUs
    assert all(len(set(gpus)) == len(gpus) for gpus in assigned)
    alone = local_executor.LocalExecutor(1)
    alone.submit([Job(tmp_path / "both", ("--trainer.devices", "1", "--trainer.devices=2"))])[
        0
    ].result()
    alone.close()
    assert assigned[-1] == ["0", "1"]


class ImmediateExecutor:
    """Finishes every job at once, in this process, and records the order."""

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


def test_runs_wait_for_their_dependencies_and_a_failure_stops_only_dependents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs = {"a": [], "bad": [], "b": ["a"], "c": ["bad"], "d": ["c", "a"], "e": ["b"]}
    executor = ImmediateExecutor()
    failed = run_graph(
        list(needs), needs.__getitem__, lambda name: Job(tmp_path / name, ()), executor
    )
    assert executor.done == ["a", "bad", "b", "e", "closed"]
    assert set(failed) == {"bad", "c", "d"}
    assert failed["bad"] == str(tmp_path / "bad.log")
    lines = capsys.readouterr().out.splitlines()  # without a terminal each run prints a line
    assert all("; about 0 s left" in line for line in lines[:3])
    assert [line.partition("; about")[0] for line in lines[:3]] == [
        "1/6 a",
        f"2/6 bad: failed, see {tmp_path / 'bad.log'}",
        "5/6 b",
    ]  # `c` and `d` need `bad`
    assert (
        failed["d"]
        == f"needs another run that failed: needs another run that failed: {tmp_path / 'bad.log'}"
    )
    again = ImmediateExecutor()
    run_graph(["a", "b"], needs.__getitem__, lambda name: Job(tmp_path / name, ()), again)
    assert again.done == ["closed"]  # finished jobs are not repeated


def test_a_run_without_metrics_has_failed(tmp_path: Path) -> None:
    class Silent(ImmediateExecutor):
        def submit(self, jobs: Sequence[Job]) -> list[Future[None]]:
            futures = [Future[None]() for _ in jobs]
            for future in futures:
                future.set_result(None)
            return futures

    assert set(run_graph(["a"], lambda _: (), lambda name: Job(tmp_path / name, ()), Silent())) == {
        "a"
    }
