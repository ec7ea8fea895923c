"""`calibration.json`: the temperatures of a run's checkpoint, which `mtl calibrate` writes."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl.errors import UserError
from mtl.training.run_folder import run_folder_of, write_atomic

CALIBRATION = "calibration.json"


def read_temperatures(checkpoint: Path) -> dict[str, float]:
    """The temperature of each calibrated task of a checkpoint; empty if there are none.

    Raises:
        UserError: If the file is damaged, or the checkpoint has changed since.
    """
    folder = run_folder_of(checkpoint)
    path = folder / CALIBRATION if folder else None
    if path is None or not path.is_file():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        temperatures = {name: float(task["temperature"]) for name, task in stored["tasks"].items()}
        name, fingerprint = stored["checkpoint"], stored["fingerprint"]
        if not all(0 < value < float("inf") for value in temperatures.values()):
            raise ValueError("a temperature is not a positive number")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be read: {error!r}; delete it, or calibrate the run again"
        ) from error
    if name != checkpoint.name:
        return {}
    if fingerprint != content_fingerprint(checkpoint):
        raise UserError(
            f"{path}: {checkpoint.name} has changed since it was calibrated; calibrate it again "
            f"with `mtl calibrate {folder}`, or delete {CALIBRATION}"
        )
    return temperatures


def write_calibration(checkpoint: Path, tasks: Mapping[str, Any]) -> Path:
    """Writes the calibration of a checkpoint; returns the file.

    Args:
        checkpoint: The checkpoint, in its run's folder.
        tasks: For each calibrated task `temperature`, and how it was found.
    """
    folder = run_folder_of(checkpoint)
    assert folder
    content = {
        "checkpoint": checkpoint.name,
        "fingerprint": content_fingerprint(checkpoint),
        "tasks": tasks,
    }
    write_atomic(folder / CALIBRATION, json.dumps(content, indent=2) + "\n")
    return folder / CALIBRATION


def content_fingerprint(checkpoint: Path) -> str:
    """Identifies the contents of a checkpoint by the checksums in its directory of files."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(checkpoint) as archive:
        for entry in archive.infolist():
            digest.update(f"{entry.filename} {entry.file_size} {entry.CRC}\n".encode())
    return digest.hexdigest()
