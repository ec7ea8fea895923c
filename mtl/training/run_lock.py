"""The lock of a run's folder: only one command at a time writes to it."""

import fcntl
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from mtl.errors import UserError
from mtl.training.run_folder import is_interrupted

LOCK = "run.lock"


@contextmanager
def run_lock(out: Path) -> Iterator[None]:
    """Context manager: hold the lock of a run's folder, which is created if necessary.

    The file `run.lock` names the process and the host that hold the lock. A lock whose process has
    ended, or whose process id belongs to a new process, is taken over. The processes of one
    distributed run share the lock of the first one, which alone calls this function.

    Args:
        out: The run's folder.

    Raises:
        UserError: If another process holds the lock, or the folder cannot be written to.
    """
    created = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = _open_exclusively(out / LOCK)
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written to: {error.strerror}; choose another folder with --out"
        ) from error
    with file:
        _check_holder(out, file.read())
        _replace_content(file, json.dumps(_this_process()))
    try:
        yield
    finally:
        (out / LOCK).unlink(missing_ok=True)
        if created:
            with suppress(OSError):  # it is not empty: the run wrote something
                out.rmdir()


@contextmanager
def no_leftovers(out: Path, started: Callable[[], bool]) -> Iterator[None]:
    """Context manager: a command that fails before it has started leaves no new files.

    A training that fails later, without a checkpoint, reports what is left.

    Args:
        out: The run's folder, which is locked.
        started: Whether the training has started.
    """
    before = set(out.rglob("*"))
    try:
        yield
    except BaseException:
        new = set() if started() else set(out.rglob("*")) - before
        for path in sorted(new, reverse=True):  # a folder comes after its files
            with suppress(OSError):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        if started() and not is_interrupted(out):
            sys.stderr.write(
                f"mtl: {out} holds no checkpoint, only the configuration and the curves so far; "
                "another run may be written to it\n"
            )
        raise


def check_unlocked(out: Path) -> None:
    """Checks that no other process holds the lock of a run's folder.

    Raises:
        UserError: If one does.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        _check_holder(out, (out / LOCK).read_text(encoding="utf-8"))


def _open_exclusively(path: Path) -> TextIO:
    """Opens a file that no other process has open in this way; it is created if necessary."""
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                return file
        file.close()  # its holder deleted it in the meantime


def _replace_content(file: TextIO, text: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(text + "\n")
    file.flush()


def _check_holder(out: Path, text: str) -> None:
    """Raises a `UserError` if the process that wrote a lock's content may still run."""
    try:
        holder = json.loads(text)
        pid, host, started = holder["pid"], holder["host"], holder["started"]
    except (ValueError, TypeError, KeyError):
        return  # empty, or cut off when its process was killed
    if host != socket.gethostname():
        raise UserError(
            f"{out} is in use by process {pid} on {host}; if that process has ended, delete "
            f"{out / LOCK}"
        )
    if pid != os.getpid() and _start_time(pid) == started is not None:
        raise UserError(
            f"{out} is in use by process {pid} on this machine; wait until it ends, or choose "
            "another folder with --out"
        )


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {"pid": pid, "host": socket.gethostname(), "started": _start_time(pid)}


def _start_time(pid: int) -> str | None:
    """When a process of this machine started; None if there is no such process.

    The process id alone does not identify a process: it is used again after the process has ended.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _unknown_start(pid)
    # The name, in parentheses, may contain spaces and parentheses. State Z: ended, not yet reaped.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def _unknown_start(pid: int) -> str | None:
    """Stands for the start of a running process on a system without /proc."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"
