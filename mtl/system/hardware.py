"""What a machine has: processors, memory, disk, libraries, the hub."""

import os
import shutil
import urllib.error
import urllib.request
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

import torch
from packaging.requirements import Requirement

MEMORY, PROCESSOR, CGROUP = Path("/proc/meminfo"), Path("/proc/cpuinfo"), Path("/sys/fs/cgroup")
# What each extra is for.
EXTRAS = {
    "quickstart": "the encoder of `make quickstart`",
    "solvers": "CAGrad, Nash-MTL, FairGrad",
    "slurm": "tables on a cluster",
    "search": "tables whose hyper-parameters are searched",
    "onnx": "`mtl export --onnx`",
}


class Library(NamedTuple):
    """An installed library.

    Attributes:
        name: Its name.
        version: Its version; None where it is not installed.
        wanted: The versions that the project is for, such as `>=2.6.4,<2.7`.
        fits: Whether the version is one of them.
        extra: The extra that wants it; None where everything does.
    """

    name: str
    version: str | None
    wanted: str
    fits: bool
    extra: str | None


def libraries() -> list[Library]:
    """The libraries that the installed package names, those of extras in `EXTRAS` included; none where it is not installed."""
    found = []
    for extra in (None, *EXTRAS):
        for requirement in _required("mtl", extra):
            found.append(_library(requirement, extra))
            found += [
                _library(more, extra)
                for inner in requirement.extras
                for more in _required(requirement.name, inner)
            ]
    return found


def _required(name: str, extra: str | None) -> list[Requirement]:
    """What an installed library needs at all, or for one of its extras alone."""
    try:
        every = [Requirement(line) for line in requires(name) or ()]
    except PackageNotFoundError:  # or it runs from its source
        return []
    always = [one for one in every if one.marker is None or one.marker.evaluate({"extra": ""})]
    if extra is None:
        return always
    return [
        one
        for one in every
        if one not in always and one.marker and one.marker.evaluate({"extra": extra})
    ]


def _library(requirement: Requirement, extra: str | None) -> Library:
    try:
        there = version(requirement.name)
    except PackageNotFoundError:
        return Library(requirement.name, None, str(requirement.specifier), False, extra)
    fits = requirement.specifier.contains(there, prereleases=True)
    return Library(requirement.name, there, str(requirement.specifier), fits, extra)


def precisions() -> dict[str, list[str]]:
    """For each device here the precisions that it computes in, the Trainer's names for them, the fastest first."""
    found = {
        "processor": ["bf16-mixed", "32-true"]
        if instructions()
        else ["32-true", "bf16-mixed (slow)"]
    }
    for place in range(torch.cuda.device_count()):
        bf16 = torch.cuda.get_device_capability(place) >= (8, 0)
        found[f"GPU {place}"] = (
            ["bf16-mixed", "16-mixed", "32-true"] if bf16 else ["16-mixed", "32-true"]
        )
    return found


def fast_precision() -> str:
    """bf16 products where the processor or the GPU has them; elsewhere they would be slow."""
    if torch.cuda.is_available():
        return (
            "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
        )
    return "bf16-mixed" if instructions() else "32-true"


def instructions() -> list[str]:
    """The processor's instructions for bf16 products."""
    able = torch.cpu.get_capabilities()
    return [name for name in ("amx_bf16", "avx512_bf16") if able.get(name)]


def processor() -> str:
    """The processor's name, and how many cores this process may use."""
    lines = PROCESSOR.read_text().splitlines() if PROCESSOR.exists() else []
    name = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        "processor",
    )
    count = cores()
    return f"{name}, {count} core{'s' * (count != 1)}"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory(gpu: bool) -> int | None:
    """Bytes that a run may take, of the first GPU or of the machine; None where nobody says.

    Of the machine no more than the container or the cluster's job has: its limit less what it uses (Linux's cgroups, version 2).
    """
    if gpu:
        return int(torch.cuda.mem_get_info()[0])
    lines = MEMORY.read_text().splitlines() if MEMORY.exists() else []
    free = next(
        (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None
    )
    files = (CGROUP / "memory.max", CGROUP / "memory.current")
    limit, used = (file.read_text().strip() if file.exists() else "" for file in files)
    left = int(limit) - int(used) if limit.isdecimal() and used.isdecimal() else None
    return min((size for size in (free, left) if size is not None), default=None)


def free_disk(folder: Path) -> int:
    """Bytes free where a folder is, or will be."""
    there = next(
        parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists()
    )
    return shutil.disk_usage(there).free


def hub(timeout: float = 3.0) -> str | None:
    """Why the hub cannot be reached; None where it can.

    Args:
        timeout: Seconds to wait.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout):
            return None
    except urllib.error.HTTPError:
        return None  # somebody answers
    except OSError as error:
        return f"{constants.ENDPOINT} does not answer: {getattr(error, 'reason', error)}"
