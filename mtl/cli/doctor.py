"""`mtl doctor`: what this machine has, and whether a training will run on it."""

import argparse
import platform
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import constants
from rich.console import Console
from rich.table import Table as RichTable

from mtl._version import __version__
from mtl.cli.lightning import read, report_user_errors, user_error_behind
from mtl.data import MultiTaskDataModule
from mtl.data.checks import checked_examples
from mtl.data.sources import open_split
from mtl.errors import UserError
from mtl.modules.backbone import without_weights
from mtl.system.hardware import (
    EXTRAS,
    fast_precision,
    free_disk,
    free_memory,
    hub,
    instructions,
    libraries,
    precisions,
    processor,
)
from mtl.system.resource_estimate import estimate_resources

# Share of what is free above which a need is called tight: estimates are not better than this.
TIGHT = 0.8


class Finding(NamedTuple):
    """A line of what was found.

    Attributes:
        what: What was looked at.
        found: What is there.
        verdict: `ok`, `note`, or `problem`: something will not work.
        remedy: A sentence on what follows and what to do, where it is not ok.
    """

    what: str
    found: str
    verdict: str = "ok"
    remedy: str = ""


def doctor(words: list[str]) -> int:
    """Runs the command.

    Args:
        words: What stands after `mtl doctor`.

    Returns:
        The exit status: 1 if something will not work.
    """
    if words in (["-h"], ["--help"]):
        _parser().print_help()
        return 0
    findings = [*_libraries(), *_devices(), _hub()]
    findings += (
        _training(words) if words else [Finding("free disk", f"{_size(free_disk(Path()))} here")]
    )
    _show(findings)
    return int(any(finding.verdict == "problem" for finding in findings))


def _parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        "mtl doctor",
        usage="mtl doctor [options of mtl fit]",
        description="Versions, devices, precision, the hub, disk and memory. With a training's options, such as -c my.yaml or "
        "--tasks+=my_task.yaml --backbone NAME, also whether its rows can be used, and what it will take of memory and disk. "
        "The exit status is 1 if something will not work.",
    )


def _libraries() -> Iterator[Finding]:
    every = libraries()
    main = [library for library in every if library.extra is None]
    names = (
        "torch",
        "lightning",
        "transformers",
        "datasets",
        "torchmetrics",
        "torchjd",
        "jsonargparse",
    )
    said = ", ".join(
        dict.fromkeys(
            f"{library.name} {library.version}" for library in main if library.name in names
        )
    )
    yield Finding("versions", f"mtl {__version__}, Python {platform.python_version()}, {said}")
    for library in main:
        if not library.fits:
            has = f"{library.version} is installed" if library.version else "not installed"
            remedy = f"pip install '{library.name}{library.wanted}', or install with the project's constraints.txt"
            yield Finding(
                library.name,
                f"{has}, {library.wanted or 'any version'} is wanted",
                "problem",
                remedy,
            )
    lacking = dict.fromkeys(
        library.extra for library in every if library.extra and not library.version
    )
    there = [extra for extra in EXTRAS if extra not in lacking]
    yield Finding("extras", ", ".join(there) or "none")
    for extra in lacking:
        if extra:
            yield Finding(
                f"extra {extra}",
                "not installed",
                "note",
                f"{EXTRAS[extra]}: pip install 'mtl[{extra}]'",
            )


def _devices() -> Iterator[Finding]:
    bf16 = (
        f"; bf16 by {' and '.join(found)}"
        if (found := instructions())
        else "; no bf16 instructions"
    )
    yield Finding("processor", processor() + bf16)
    for place in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(place)
        yield Finding(
            f"GPU {place}",
            f"{torch.cuda.get_device_name(place)}, {_size(free)} of {_size(total)} free",
        )
    if not torch.cuda.device_count():
        built = (
            "this torch is built without CUDA"
            if torch.version.cuda is None
            else "no driver, or none visible"
        )
        yield Finding("GPU", f"none: {built}", "note", "trainings run on the processor")
    able = "; ".join(f"{device}: {', '.join(names)}" for device, names in precisions().items())
    yield Finding(
        "precision", f"--trainer.precision {fast_precision()} is the fast one here ({able})"
    )


def _hub() -> Finding:
    if why := hub():
        constants.HF_HUB_OFFLINE = True  # nobody is to wait for it again and again
        remedy = "give --backbone a directory and --data.root DIR, or fill the hub's cache (HF_HOME) where there is a network"
        return Finding("hub", f"not reachable: {why}", "note", remedy)
    return Finding("hub", "reachable: encoders and data sets by name")


def _training(words: list[str]) -> Iterator[Finding]:
    """What a training of these options meets."""
    reader = read(["fit", *words])
    config = reader.config.fit
    try:
        with without_weights():
            made = reader.parser.instantiate(reader.config).fit
    except Exception as error:
        if not (cause := user_error_behind(error)):
            raise
        yield Finding("training", "cannot be made", "problem", str(cause))
        return
    out = config.out or Path("runs")
    rows, problems = _rows(made.data)
    yield from problems
    found = estimate_resources(
        made.model, made.data, rows, half="16" in str(config.trainer.precision)
    )
    parts = ", ".join(f"{name} {_size(size)}" for name, size in found.memory.items())
    remedy = "a smaller --data.batch_size or --data.max_length, --model.gradient_checkpointing true, or a smaller backbone"
    gpus, wants = torch.cuda.device_count(), str(config.trainer.accelerator) in ("gpu", "cuda")
    count = int(config.trainer.devices) if str(config.trainer.devices).isdecimal() else 1
    if wants and count > gpus:
        said = f"{count} GPU{'s' * (count > 1)} wanted, {gpus} here"
        yield Finding(
            "devices", said, "problem", "--trainer.accelerator cpu, or fewer --trainer.devices"
        )
    on_gpu = gpus > 0 and str(config.trainer.accelerator) != "cpu"
    yield _fits(
        f"memory (estimate: {parts})", sum(found.memory.values()), free_memory(on_gpu), remedy
    )
    yield _fits(
        f"disk for checkpoints in {out}",
        found.checkpoints,
        free_disk(out),
        "give --out a folder on another disk",
    )
    if rows:
        cache = made.data.cache
        yield _fits(
            f"disk for encoded rows in {cache}, at most",
            found.cache,
            free_disk(cache),
            "give --data.cache another folder",
        )


def _rows(data: MultiTaskDataModule) -> tuple[int, list[Finding]]:
    """Rows of the splits that a training and its test open, as far as they are files here, and what is wrong with them."""
    count, findings = 0, []
    for task in data.tasks:
        if task.source.hub and data.root is None:
            findings.append(
                Finding(
                    f"task {task.name}",
                    f"of the hub's {task.source.hub}: read when the training begins",
                )
            )
            continue
        for split in dict.fromkeys([task.splits.train, *task.splits.validation, *task.splits.test]):
            try:
                own = sum(
                    1 for _ in checked_examples(task, open_split(task, split, data.root), Counter())
                )
            except UserError as error:
                findings.append(
                    Finding(f"task {task.name}, {split}", "cannot be used", "problem", str(error))
                )
                continue
            findings.append(Finding(f"task {task.name}, {split}", f"{own:,} rows"))
            count += own
    return count, findings


def _fits(what: str, wanted: int, free: int | None, remedy: str) -> Finding:
    if free is None:
        return Finding(what, f"{_size(wanted)}; nobody says how much is free here", "note")
    found = f"{_size(wanted)} of {_size(free)} free"
    if wanted > free:
        return Finding(what, found, "problem", f"not enough: {remedy}")
    return (
        Finding(what, found, "note", f"tight: {remedy}")
        if wanted > TIGHT * free
        else Finding(what, found)
    )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:,.0f} MiB"


def _show(findings: list[Finding]) -> None:
    signs = {
        "ok": "[green]ok[/green]",
        "note": "[yellow]note[/yellow]",
        "problem": "[bold red]problem[/bold red]",
    }
    table = RichTable(title="mtl doctor", title_justify="left", show_lines=False)
    for column in ("", "found", ""):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(finding.what, finding.found.replace("[", "\\["), signs[finding.verdict])
    console = Console()
    console.print(table)
    for finding in findings:
        if finding.remedy:
            console.print(
                f"{finding.verdict}: {finding.what}: {finding.remedy}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )


def main(words: list[str]) -> None:
    """Runs the command; an error of the user's is one message."""
    with report_user_errors():
        status = doctor(words)
    sys.exit(status) if status else None
