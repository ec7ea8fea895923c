"""The checks of `mtl doctor` that concern a configured training."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mtl.cli.checks import Check, format_size
from mtl.cli.parsed import parse_command
from mtl.cli.refusals import user_error_behind
from mtl.data import MultiTaskDataModule
from mtl.data.data_warnings import task_data_warnings, without_encoding
from mtl.data.splits import SplitOpener, class_counts
from mtl.data.task_data import TaskDataModule
from mtl.data.unencoded import UnencodedOpener
from mtl.errors import UserError
from mtl.modules.backbone import without_weights
from mtl.system.hardware import free_disk, free_memory
from mtl.system.resource_estimate import estimate_resources
from mtl.tasks import Task

# Share of the free bytes above which a requirement is called tight: estimates are not more precise.
TIGHT = 0.8
LESS_MEMORY = (
    "a smaller --data.batch_size or --data.max_length, --model.gradient_checkpointing true, "
    "or a smaller encoder"
)


def check_training(arguments: list[str]) -> Iterator[Check]:
    """Checks a training.

    Args:
        arguments: The options of `mtl fit`; if empty, only the free disk space is reported.

    Raises:
        UserError: If the options are wrong.
    """
    if not arguments:
        yield Check("free disk", f"{format_size(free_disk(Path()))} in this folder")
        return
    command = parse_command(["fit", *arguments])
    try:
        with without_weights():
            created = command.parser.instantiate(command.config).fit
            created.model.run_weights.freeze(created.model)  # as in a training, for the memory
    except Exception as error:
        if not (cause := user_error_behind(error)):
            raise
        yield Check("training", "cannot be created", "problem", str(cause))
        # The data can be checked without the encoder.
        root = command.config.fit.data.init_args.root
        for task in command.config.fit.tasks:
            yield from (check for check, _ in _split_checks(UnencodedOpener(None), task, root))
        return
    examples = 0
    for check, count in _data_checks(created.data):
        examples += count
        yield check
    yield from _device_checks(command.config.fit.trainer)
    yield from _resource_checks(created, command.config.fit, examples)


def _data_checks(data: MultiTaskDataModule) -> Iterator[tuple[Check, int]]:
    """Checks the splits that a training and its test read, and counts their examples."""
    unencoded = without_encoding(data)
    for index, task in enumerate(data.tasks):
        if not data.is_in_training(task):
            continue
        yield from _split_checks(unencoded.opener, task, data.root)
        if _is_on_hub(task, data.root):
            continue
        yield from ((check, 0) for check in _training_set_checks(unencoded, task))
        if warnings := list(task_data_warnings(data, unencoded, index)):
            result = f"{len(warnings)} warning{'s' * (len(warnings) > 1)}"
            yield Check(f"task {task.name}, data", result, "note", "\n  ".join(["", *warnings])), 0


def _is_on_hub(task: Task, root: Path | None) -> bool:
    return task.source.hub is not None and root is None


def _split_checks(
    opener: SplitOpener | UnencodedOpener, task: Task, root: Path | None
) -> Iterator[tuple[Check, int]]:
    """Checks the splits of a task, and counts their examples."""
    if _is_on_hub(task, root):
        result = f"from the Hub ({task.source.hub}); read when the training starts"
        yield Check(f"task {task.name}", result), 0
        return
    for split in dict.fromkeys([task.splits.train, *task.splits.validation, *task.splits.test]):
        yield _split_check(opener, task, split, root)


def _split_check(
    opener: SplitOpener | UnencodedOpener, task: Task, split: str, root: Path | None
) -> tuple[Check, int]:
    subject = f"task {task.name}, {split}"
    try:
        examples = opener.open(task, split, root)
    except UserError as error:
        return Check(subject, "cannot be used", "problem", str(error)), 0
    counts = class_counts(task, examples)
    result = f"{len(examples):,} examples" + (f": {counts}" if counts else "")
    return Check(subject, result), len(examples)


def _training_set_checks(unencoded: TaskDataModule, task: Task) -> Iterator[Check]:
    """Checks the choice of training examples: `max_examples`, `holdout`, k-shot sets."""
    try:
        available = len(unencoded.opener.open(task, task.splits.train, unencoded.root))
    except UserError:  # reported as a split that cannot be used
        return
    try:
        count = len(unencoded.train_split(task)) if unencoded.trains_on(task) else 0
    except UserError as error:
        yield Check(f"task {task.name}, training", "cannot be used", "problem", str(error))
        return
    if count != available:
        yield Check(f"task {task.name}, training", f"{count:,} of {available:,} examples")


def _device_checks(trainer: Any) -> Iterator[Check]:
    """Checks that the machine has as many GPUs as are configured."""
    available = torch.cuda.device_count()
    devices = str(trainer.devices)
    count = int(devices) if devices.isdecimal() else 1
    if str(trainer.accelerator) in ("gpu", "cuda") and count > available:
        result = f"{count} GPU{'s' * (count > 1)} configured, {available} available"
        remedy = "--trainer.accelerator cpu, or fewer --trainer.devices"
        yield Check("devices", result, "problem", remedy)


def _resource_checks(created: Any, config: Any, examples: int) -> Iterator[Check]:
    """Compares the estimated memory and disk space with what is free."""
    half = "16" in str(config.trainer.precision)
    estimate = estimate_resources(created.model, created.data, examples, half)
    parts = ", ".join(f"{name} {format_size(size)}" for name, size in estimate.memory.items())
    on_gpu = torch.cuda.device_count() > 0 and str(config.trainer.accelerator) != "cpu"
    needed, free = sum(estimate.memory.values()), free_memory(on_gpu)
    yield _space_check(f"memory (estimate: {parts})", needed, free, LESS_MEMORY)
    out = config.out or Path("runs")
    remedy = "choose a folder on another disk with --out"
    subject = f"disk space for checkpoints in {out}"
    yield _space_check(subject, estimate.checkpoints, free_disk(out), remedy)
    if examples:
        cache = created.data.cache
        subject = f"disk space for encoded examples in {cache}, at most"
        remedy = "choose another folder with --data.cache"
        yield _space_check(subject, estimate.cache, free_disk(cache), remedy)


def _space_check(subject: str, needed: int, free: int | None, remedy: str) -> Check:
    if free is None:
        return Check(subject, f"{format_size(needed)}; the free amount is unknown", "note")
    result = f"{format_size(needed)} of {format_size(free)} free"
    if needed > free:
        return Check(subject, result, "problem", f"not enough: {remedy}")
    if needed > TIGHT * free:
        return Check(subject, result, "note", f"tight: {remedy}")
    return Check(subject, result)
