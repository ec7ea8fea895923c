"""What a run takes of the machine, and which code ran."""

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mtl._version import __version__

LIBRARIES = ("torch", "lightning", "transformers", "datasets", "torchmetrics")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak_memory(device: torch.device) -> None:
    """Starts to watch the memory anew, so that an earlier run in the same process does not count."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR.exists():
        CLEAR.write_text("5")  # Linux: the peak becomes what is resident now


def peak_memory(device: torch.device) -> int | None:
    """Most bytes used since then: of the GPU, or resident in this process on Linux; None where nobody counts them."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if not STATUS.exists():
        return None
    lines = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else None


def provenance() -> dict[str, Any]:
    """With which libraries and which code something is made."""
    libraries = {name: version(name) for name in LIBRARIES}
    return {
        "versions": {"mtl": __version__, "python": platform.python_version()} | libraries,
        "code": code_digest(),
    }


@cache
def code_digest() -> str:
    """A fingerprint of this package's source files."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for file in sorted(folder.rglob("*.py")):
        digest.update(str(file.relative_to(folder)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
