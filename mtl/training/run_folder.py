"""The folder of a run: configuration, checkpoints, event files, predictions, metrics.

`metrics.json` is written last; its presence means that the run is complete.
"""

import hashlib
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from mtl.errors import UserError
from mtl.user_files import expand_path

CHECKPOINTS = "checkpoints"
BEST, LAST = "best.ckpt", "last.ckpt"
PREVIOUS = "previous.ckpt"  # the one before `LAST`; only until the run is complete
METRICS = "metrics.json"
PREDICTIONS = "predictions"  # of a test, or of `mtl predict`
CONFIG = "config.yaml"


def check_fresh_folder(out: Path) -> None:
    """Checks that a new run may write to a folder.

    Raises:
        UserError: If the folder holds a finished or an interrupted run, or a link leads out of it.
    """
    check_links(out)
    if (out / METRICS).exists():
        raise UserError(
            f"{out} holds a finished run; choose another folder with --out, or delete this one "
            "to run it again"
        )
    if is_interrupted(out):
        raise UserError(
            f"{out} holds an interrupted run; resume it with --ckpt_path {out}, or choose "
            "another folder with --out"
        )


def check_links(folder: Path, inside: Path | None = None) -> None:
    """Checks that what a command writes to a folder stays in it: no link leads elsewhere.

    Args:
        folder: The folder; it may itself be a link, and need not exist.
        inside: The folder that links must not leave. Default: `folder`.

    Raises:
        UserError: If a link does.
    """
    limit = os.path.realpath(inside or folder)
    for path in folder.rglob("*"):
        target = os.path.realpath(path)
        if path.is_symlink() and not Path(target).is_relative_to(limit):
            raise UserError(
                f"{path} is a link to {target}, outside of {inside or folder}, and the command "
                "would write there; replace the link by a copy, or choose another folder with --out"
            )


def check_writable(out: Path) -> None:
    """Checks that a folder can be created, or written to. Writes nothing.

    Raises:
        UserError: If it cannot.
    """
    existing = next(path for path in (out, *out.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise UserError(f"--out {out}: {existing} is a file; give a folder that may be created")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--out {out}: {existing} is read-only; choose another folder")


def is_interrupted(out: Path) -> bool:
    """Whether a folder holds a checkpoint from which training can be resumed."""
    return any((out / CHECKPOINTS / name).exists() for name in (LAST, PREVIOUS))


def find_checkpoint(checkpoint: str, run_folder: Path | None, command: str) -> Path:
    """Returns the checkpoint file that a value of `--ckpt_path` refers to.

    Args:
        checkpoint: A checkpoint file, a run's folder, or `best` or `last`. A folder stands for its
            last checkpoint if the command is `fit`, and for its best checkpoint otherwise.
        run_folder: The folder that `best` and `last` refer to; None if it is not known.
        command: `fit`, `validate`, `test` or `predict`.

    Raises:
        UserError: If there is no such checkpoint; the message lists the checkpoints of the run.
    """
    path = expand_path(checkpoint)
    if path.is_file():
        return path
    name = "last" if command == "fit" else "best"
    if path.is_dir():
        run_folder = path
    elif checkpoint in ("best", "last"):
        name = checkpoint
    else:
        raise UserError(
            f"--ckpt_path {checkpoint}: neither a checkpoint file nor a run's folder, nor "
            "'best' or 'last'"
        )
    if run_folder is None:
        raise UserError(
            f"--ckpt_path {checkpoint}: name the run as well, with --out RUN, or give "
            "--ckpt_path RUN"
        )
    file = run_folder / CHECKPOINTS / f"{name}.ckpt"
    if file.name == LAST and not is_complete(file) and is_complete(file.with_name(PREVIOUS)):
        _report_previous(file)
        return file.with_name(PREVIOUS)
    if not file.parent.is_dir() and path.is_dir():
        raise UserError(
            f"--ckpt_path {checkpoint}: not the folder of a run: it has no {CHECKPOINTS}/; give "
            "a folder that `mtl fit` wrote, or a checkpoint file"
        )
    if not file.is_file():
        names = sorted(other.name for other in file.parent.glob("*.ckpt"))
        remedy = (
            f"; give {file.with_name('last.ckpt')}"
            if name == "best" and "last.ckpt" in names
            else ""
        )
        raise UserError(
            f"--ckpt_path {checkpoint}: {file} does not exist (checkpoints of that run: "
            f"{', '.join(names) or 'none'}){remedy}"
        )
    return file


@cache  # a command looks for its checkpoint several times
def _report_previous(file: Path) -> None:
    sys.stderr.write(
        f"mtl: {file} is truncated or missing; the checkpoint before it, {PREVIOUS}, is used\n"
    )


def run_folder_of(checkpoint: Path) -> Path | None:
    """Returns the folder of the run that wrote a checkpoint; None if the file was moved."""
    return checkpoint.parent.parent if checkpoint.parent.name == CHECKPOINTS else None


def row_folder_name(row: str) -> str:
    """The name of a row's folder in a comparison's folder, with links to its runs."""
    return re.sub(r"[^\w+-]+", "_", row).strip("_")


def config_digest(content: Mapping[str, Any]) -> str:
    """Returns 8 hexadecimal digits that identify a configuration.

    Args:
        content: The resolved configuration, as plain values; the order of keys does not matter.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's contents, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_metrics(out: Path) -> dict[str, Any]:
    """Reads a run's `metrics.json`; returns an empty dict if the run has not finished.

    Raises:
        UserError: If the file is not a JSON object.
    """
    path = out / METRICS
    try:
        metrics: Any = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, RecursionError):
        metrics = None
    if not isinstance(metrics, dict):
        raise UserError(f"{path}: not a JSON object; delete the file, and evaluate the run again")
    return metrics


@contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Context manager: write a file so that readers see it complete or not at all.

    Yields a temporary path in the same folder, which is created if necessary. The temporary file
    replaces `path` at the end of the block. If the block raises, the temporary file is deleted and
    `path` stays as it was.

    Args:
        path: The file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes may write the same file: each has its own temporary one.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # A rename alone may reach the disk before the content does.
    _synchronize(temporary)
    temporary.replace(path)
    _synchronize(path.parent)


def _synchronize(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint exists and is not truncated: its table of contents is at its end."""
    return checkpoint.is_file() and zipfile.is_zipfile(checkpoint)


def remove_unfinished(out: Path) -> None:
    """Removes checkpoints that a killed process did not finish writing; the run must be locked."""
    for part in (out / CHECKPOINTS).glob("*.part"):
        part.unlink(missing_ok=True)


def write_atomic(path: Path, text: str) -> None:
    """Writes a text file atomically, as UTF-8."""
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
