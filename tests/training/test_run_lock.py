"""Only one command at a time writes to a run's folder."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mtl.errors import UserError
from mtl.training.run_lock import LOCK, check_unlocked, run_lock


def start_time(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def write_lock(out: Path, pid: int, host: str, started: str) -> None:
    out.mkdir(exist_ok=True)
    (out / LOCK).write_text(json.dumps({"pid": pid, "host": host, "started": started}))


def test_the_folder_of_a_running_process_is_refused(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        write_lock(tmp_path, other.pid, socket.gethostname(), start_time(other.pid))
        for use in (check_unlocked, lambda out: run_lock(out).__enter__()):
            with pytest.raises(UserError, match=f"in use by process {other.pid} on this machine"):
                use(tmp_path)
        other.kill()
    with run_lock(tmp_path):  # the process has ended
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_process_id_that_is_used_again_does_not_hold_the_lock(tmp_path: Path) -> None:
    write_lock(tmp_path, os.getppid(), socket.gethostname(), "an earlier start")
    with run_lock(tmp_path):
        pass


def test_the_lock_of_another_host_is_refused_with_the_file_to_delete(tmp_path: Path) -> None:
    write_lock(tmp_path, 1, "elsewhere", "1")
    with pytest.raises(UserError, match="process 1 on elsewhere; if .* has ended, delete .*lock"):
        check_unlocked(tmp_path)


@pytest.mark.parametrize("content", ["", '{"pid": 12, "ho', "[]", "null"])
def test_a_lock_that_was_cut_off_is_taken_over(content: str, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(content)
    with run_lock(tmp_path):
        check_unlocked(tmp_path)


def test_a_folder_in_which_nothing_was_written_is_removed(tmp_path: Path) -> None:
    with pytest.raises(KeyError), run_lock(tmp_path / "a" / "run"):
        raise KeyError
    assert not (tmp_path / "a" / "run").exists()
