import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from experiments.jobs import Job, quietly, work


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
        assert (tmp_path / name).read_text().splitlines() == [f"said by {name}", f"printed by {name}"]


def test_what_goes_wrong_stands_in_the_log(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log, pytest.raises(ZeroDivisionError), quietly(log):
        _ = 1 / 0
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()
    with (tmp_path / "log").open("w") as log, pytest.raises(RuntimeError, match="ended with 2"), quietly(log):
        raise SystemExit(2)


def test_a_job_is_trained_tested_and_then_finished(task_files: list[Path], backbone: str, in_tmp: Path) -> None:
    words = (f"--tasks+={task_files[0]}", "--backbone", backbone, "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1")
    job = Job(in_tmp / "runs/one", words)
    assert not job.finished
    work(job, 1)
    assert job.finished
    assert "test" in json.loads((job.out / "metrics.json").read_text())


PARENT = """
import subprocess, sys
code = "import os, time; from experiments.jobs import end_with; end_with(os.getppid()); print('up', flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", code])
print(child.pid, flush=True)
child.wait()
"""


def test_a_worker_ends_with_its_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert parent.stdout.readline() == "up\n"
        parent.kill()
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{child}/stat").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            return  # ended; nobody has asked for its exit status yet
        time.sleep(0.1)
    raise AssertionError("the worker goes on")
