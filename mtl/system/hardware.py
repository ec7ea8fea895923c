"""What a machine has: processor, GPUs, memory, disk space, and access to the Hugging Face Hub."""

import os
import shutil
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path

import torch

MEMORY, PROCESSOR, CGROUP = Path("/proc/meminfo"), Path("/proc/cpuinfo"), Path("/sys/fs/cgroup")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def precisions() -> dict[str, list[str]]:
    """Returns the precisions of each device by the Trainer's names, the fastest first."""
    cpu = ["bf16-mixed", "32-true"] if bf16_instructions() else ["32-true", "bf16-mixed (slow)"]
    by_device = {"processor": cpu}
    for index in range(torch.cuda.device_count()):
        bf16 = torch.cuda.get_device_capability(index) >= (8, 0)
        by_device[f"GPU {index}"] = [*(["bf16-mixed"] if bf16 else []), "16-mixed", "32-true"]
    return by_device


def fast_precision() -> str:
    """Returns `bf16-mixed` if the GPU or processor computes bf16 in hardware, else `32-true`."""
    if torch.cuda.is_available():
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        bf16 = bool(bf16_instructions())
    return "bf16-mixed" if bf16 else "32-true"


def bf16_instructions() -> list[str]:
    """Returns the processor's instruction sets for products in bf16."""
    capabilities = torch.cpu.get_capabilities()
    return [name for name in ("amx_bf16", "avx512_bf16") if capabilities.get(name)]


def processor() -> str:
    """Returns the processor's name, and the number of cores that this process may use."""
    lines = PROCESSOR.read_text().splitlines() if PROCESSOR.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    count = cores()
    return f"{[*names, 'processor'][0]}, {count} core{'s' * (count != 1)}"


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def runs_on_processor(accelerator: object) -> bool:
    """Whether a Trainer with this accelerator computes on the processor of this machine."""
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    return accelerator == "cpu" or (accelerator == "auto" and not accelerated)


def free_memory(gpu: bool) -> int | None:
    """Returns the bytes that a run may use; None if that is not known.

    In a container or a cluster's job, this is at most the limit of its cgroup (version 2, Linux)
    minus what the cgroup uses.

    Args:
        gpu: Whether memory of the first GPU is meant, or of the machine.
    """
    if gpu:
        return int(torch.cuda.mem_get_info()[0])
    available = _kilobytes(MEMORY, "MemAvailable")
    files = (CGROUP / "memory.max", CGROUP / "memory.current")
    limit, used = (file.read_text().strip() if file.exists() else "" for file in files)
    in_group = int(limit) - int(used) if limit.isdecimal() and used.isdecimal() else None
    return min((size for size in (available, in_group) if size is not None), default=None)


def reset_peak_memory(device: torch.device) -> None:
    """Resets the peak, so that an earlier run in the same process is not counted."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR.exists():
        CLEAR.write_text("5")  # Linux: the peak becomes the current resident size


def peak_memory(device: torch.device) -> int | None:
    """Returns the peak memory since the reset, in bytes; None if it is not known.

    Args:
        device: A GPU; or the CPU, for the resident size of this process (Linux only).
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return _kilobytes(STATUS, "VmHWM:")


def _kilobytes(file: Path, field: str) -> int | None:
    """A field of a file of /proc, in bytes; None if there is no such field."""
    lines = file.read_text().splitlines() if file.exists() else []
    sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith(field)]
    return sizes[0] if sizes else None


def free_disk(folder: Path) -> int:
    """Returns the free bytes on the disk of a folder, which need not exist."""
    parents = (folder.absolute(), *folder.absolute().parents)
    return shutil.disk_usage(next(parent for parent in parents if parent.exists())).free


@cache
def cached_hub_error() -> str | None:
    """Why the Hugging Face Hub cannot be reached, asked once; None if it can."""
    return hub_error()


def hub_error(timeout: float = 3.0) -> str | None:
    """Returns why the Hugging Face Hub cannot be reached; None if it can.

    Args:
        timeout: Seconds to wait.
    """
    from huggingface_hub import constants  # here: it is slow to import

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout):
            return None
    except urllib.error.HTTPError:
        return None  # the server answers
    except OSError as error:
        return f"{constants.ENDPOINT} does not answer: {getattr(error, 'reason', error)}"
