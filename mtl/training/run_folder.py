"""A run is its folder: configuration, checkpoints, events, predictions, and `metrics.json` when it is whole."""

import json
from pathlib import Path
from typing import Any

from mtl.errors import UserError

CHECKPOINTS = "checkpoints"
METRICS = "metrics.json"
CONFIG = "config.yaml"


def find_checkpoint(given: str, out: Path | None, purpose: str) -> Path:
    """The checkpoint file that `--ckpt_path` means.

    Args:
        given: A checkpoint file, a run's folder, or `best` or `last` of the run in `out`. A folder means its last
            checkpoint to go on with a run, its best one otherwise.
        out: The run's folder, where it is known.
        purpose: The command: `fit`, `validate`, `test` or `predict`.

    Raises:
        UserError: If there is no such checkpoint; the message lists those that there are.
    """
    path = Path(given)
    if path.is_file():
        return path
    name = "last" if purpose == "fit" else "best"
    if path.is_dir():
        out = path
    elif given in ("best", "last"):
        name = given
    else:
        raise UserError(
            f"--ckpt_path {given}: neither a checkpoint nor a run's folder, nor 'best' or 'last'"
        )
    if out is None:
        raise UserError(f"--ckpt_path {given}: say of which run, with --out RUN or --ckpt_path RUN")
    found = out / CHECKPOINTS / f"{name}.ckpt"
    if not found.is_file():
        there = ", ".join(sorted(file.name for file in found.parent.glob("*.ckpt"))) or "none"
        remedy = (
            f"; give {found.with_name('last.ckpt')}"
            if name == "best" and "last.ckpt" in there
            else ""
        )
        raise UserError(
            f"--ckpt_path {given}: there is no {found} (checkpoints of that run: {there}){remedy}"
        )
    return found


def run_folder_of(checkpoint: Path) -> Path | None:
    """The folder of the run that wrote a checkpoint; None where the checkpoint was moved out of it."""
    return checkpoint.parent.parent if checkpoint.parent.name == CHECKPOINTS else None


def read_metrics(out: Path) -> dict[str, Any]:
    """A run's `metrics.json`; empty where the run has not ended."""
    path = out / METRICS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_atomic(path: Path, text: str) -> None:
    """Writes a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
