"""Checks that a command which resumes a run does not change what is trained."""

import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mtl.errors import UserError, shorten
from mtl.training.checkpoints import read_checkpoint
from mtl.training.run_folder import (
    BEST,
    CHECKPOINTS,
    CONFIG,
    atomic_output,
    check_fresh_folder,
    run_folder_of,
)
from mtl.training.stored_config import check_classes, read_run_configuration

# Sections of a configuration that decide what is trained; the Trainer's options may change.
FIXED = ("tasks", "backbone", "score", "seed_everything", "model", "data")
# Options in these sections that concern the machine, or only a run's start.
FREE = (
    "data.root",
    "data.cache",
    "data.num_workers",
    "data.eval_batch_size",
    "model.attention",
    "model.gradient_checkpointing",
    "model.init_from",
)


def check_resumable(checkpoint: Path, out: Path, config: Mapping[str, Any]) -> None:
    """Checks that a run can be resumed from a checkpoint with a configuration. Writes nothing.

    Args:
        checkpoint: The checkpoint file.
        out: The folder to write to.
        config: The resolved configuration of `mtl fit`, as plain values.

    Raises:
        UserError: If the checkpoint has no optimizer state, the configuration is not that of its
            run, or the folder holds another run.
    """
    content = read_checkpoint(checkpoint)
    if "optimizer_states" not in content:
        raise UserError(
            f"{checkpoint}: training cannot be resumed from it, because it has no optimizer state; "
            f"give the run's folder, or start a new run with --model.init_from {checkpoint}"
        )
    folder = run_folder_of(checkpoint)
    if difference := next(_differences(_stored_config(content), config), None):
        name, old, new = difference
        raise UserError(
            "--ckpt_path resumes a run, which keeps its tasks, method and data, but "
            f"{name} differs: {shorten(old)} in {checkpoint}, {shorten(new)} in "
            f"{_place(difference, content, folder)}. To train a new run from its weights, give "
            f"--model.init_from {folder or checkpoint} instead of --ckpt_path, and a new --out"
        )
    if folder is None or out.resolve() != folder.resolve():
        check_fresh_folder(out)


def resume_command(out: Path, config: Mapping[str, Any]) -> str:
    """The command that resumes a run, for a shell.

    Args:
        out: The run's folder.
        config: Its resolved configuration, as plain values.
    """
    words = ["mtl", "fit", "--ckpt_path", str(out)]
    try:
        check_classes(config, out)
    except UserError:  # it uses the user's own classes: naming the file says that they are trusted
        words += ["-c", str(out / CONFIG)]
    return shlex.join(words)


def copy_best_checkpoint(checkpoint: Path, out: Path) -> None:
    """Copies the best checkpoint of a run that continues in another folder."""
    best = checkpoint.with_name(BEST)
    target = out / CHECKPOINTS / BEST
    if best.is_file() and not target.exists():
        with atomic_output(target) as temporary:
            shutil.copyfile(best, temporary)


def _stored_config(content: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a run in its checkpoint; its config.yaml may have been edited."""
    model = dict(content["hyper_parameters"])
    data = dict(content["datamodule_hyper_parameters"])
    shared = {name: model.pop(name) for name in ("tasks", "backbone", "score") if name in model}
    shared |= {"seed_everything": data.pop("seed")} if "seed" in data else {}
    sections = {"model": model, "data": data}
    return shared | {
        name: {"class_path": section.pop("_class_path"), "init_args": section}
        for name, section in sections.items()
    }


def _place(difference: Any, content: Mapping[str, Any], folder: Path | None) -> str:
    """Where the new value of an option is given: in the run's config.yaml, or in the command."""
    if folder and (folder / CONFIG).is_file():
        file = read_run_configuration(folder / CONFIG)
        written = [task for task in file.get("tasks") or [{}] if isinstance(task, Mapping)]
        names_tasks = all("name" in task for task in written)
        if names_tasks and difference in _differences(_stored_config(content), file):
            return str(folder / CONFIG)
    return "this command"


def _differences(
    stored: Mapping[str, Any], config: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Yields the options that differ: name, old value, new value."""
    tasks = [
        {task["name"]: _without_place(task) for task in each["tasks"]} for each in (stored, config)
    ]
    names = [list(each) for each in tasks]
    if names[0] != names[1]:
        yield "tasks", names[0], names[1]
        return
    for name in names[0]:
        yield from _nested_differences(f"tasks.{name}", tasks[0][name], tasks[1][name])
    for section in FIXED[1:]:
        if section in stored:
            yield from _nested_differences(section, stored[section], config.get(section))


def _nested_differences(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Compares what is stored; an option that is new in this version is not."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            inner = name if key == "init_args" else f"{name}.{key}"
            if key in new:
                yield from _nested_differences(inner, value, new[key])
    elif old != new and name not in FREE:
        yield name.removesuffix(".class_path"), old, new


def _without_place(task: Mapping[str, Any]) -> dict[str, Any]:
    """A task without the place of its files, which may have moved."""
    source = {key: value for key, value in (task.get("source") or {}).items() if key != "path"}
    return {**task, "source": source}
