"""The checks of `mtl doctor` that concern the machine."""

import platform
from collections.abc import Iterator

import torch
from huggingface_hub import constants

from mtl._version import DISTRIBUTION, __version__
from mtl.cli.checks import Check, format_size
from mtl.system.hardware import bf16_instructions, fast_precision, hub_error, precisions, processor
from mtl.system.libraries import EXTRAS, Library, libraries

# The libraries whose versions are shown.
SHOWN = (
    "torch",
    "lightning",
    "transformers",
    "datasets",
    "torchmetrics",
    "torchjd",
    "jsonargparse",
)


def check_machine() -> Iterator[Check]:
    """Checks libraries, extras, devices and access to the Hub."""
    required = libraries()
    yield from _library_checks([library for library in required if library.extra is None])
    yield from _extra_checks([library for library in required if library.extra is not None])
    yield from _device_checks()
    yield _hub_check()


def _library_checks(required: list[Library]) -> Iterator[Check]:
    versions = [f"{each.name} {each.version}" for each in required if each.name in SHOWN]
    shown = [f"mtl {__version__}", f"Python {platform.python_version()}", *versions]
    yield Check("versions", ", ".join(dict.fromkeys(shown)))
    for library in required:
        if not library.compatible:
            installed = f"{library.version} is installed" if library.version else "not installed"
            yield Check(
                library.name,
                f"{installed}, {library.required or 'any version'} is required",
                "problem",
                f"pip install '{library.name}{library.required}', or install with the "
                "project's constraints.txt",
            )


def _extra_checks(required: list[Library]) -> Iterator[Check]:
    missing = {each.extra for each in required if not each.version}
    installed = [extra for extra in EXTRAS if extra not in missing]
    yield Check("extras", ", ".join(installed) or "none")
    for extra, purpose in EXTRAS.items():
        if extra in missing:
            remedy = f"{purpose}: pip install '{DISTRIBUTION}[{extra}]'"
            yield Check(f"extra {extra}", "not installed", "note", remedy)


def _device_checks() -> Iterator[Check]:
    instructions = " and ".join(bf16_instructions())
    bf16 = f"bf16 with {instructions}" if instructions else "no bf16 instructions"
    yield Check("processor", f"{processor()}; {bf16}")
    count = torch.cuda.device_count()
    for index in range(count):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield Check(f"GPU {index}", f"{name}, {format_size(free)} of {format_size(total)} free")
    if not count:
        without_cuda = torch.version.cuda is None
        reason = "torch is built without CUDA" if without_cuda else "no driver, or none visible"
        yield Check("GPU", f"none: {reason}", "note", "trainings run on the processor")
    supported = "; ".join(f"{device}: {', '.join(each)}" for device, each in precisions().items())
    yield Check("precision", f"fastest: --trainer.precision {fast_precision()} ({supported})")


def _hub_check() -> Check:
    error = hub_error()
    if error is None:
        return Check("hub", "reachable: encoders and data sets can be given by name")
    constants.HF_HUB_OFFLINE = True  # later checks do not wait for it again
    return Check(
        "hub",
        f"not reachable: {error}",
        "note",
        "give --backbone a directory and --data.root DIR, or fill the Hub's cache (HF_HOME) on a "
        "machine with network access",
    )
