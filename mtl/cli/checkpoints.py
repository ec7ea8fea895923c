"""From `--ckpt_path` to the configuration that the checkpoint was trained with."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_info

from mtl.cli.class_options import named_files, named_values, option_value
from mtl.errors import UserError
from mtl.inference import loading
from mtl.methods import MultiTaskModule
from mtl.tasks import Task
from mtl.training.calibration_file import read_temperatures
from mtl.training.checkpoints import check_callback_states, read_checkpoint
from mtl.training.run_folder import CONFIG, find_checkpoint, run_folder_of
from mtl.training.stored_config import (
    check_classes,
    check_written_paths,
    import_named_classes,
    outside_paths,
    read_run_configuration,
)

# Hyper-parameters of the method that are options of the command itself.
SHARED = ("tasks", "backbone", "score")
# What a run's config.yaml has besides; the last one is written last.
SECTIONS = ("seed_everything", "trainer", "model", "data", *SHARED, "save_every")


def named_checkpoint(command: str, arguments: list[str]) -> Path | None:
    """Returns the checkpoint that `--ckpt_path` names.

    None if the option is not given, or is `best` or `last` of the run in `--out`.

    Args:
        command: `fit`, `validate`, `test` or `predict`.
        arguments: The arguments of the command.

    Raises:
        UserError: If there is no such checkpoint.
    """
    value = option_value("--ckpt_path", arguments)
    return (
        find_checkpoint(value, None, command) if value and value not in ("best", "last") else None
    )


def configuration_options(checkpoint: Path, command: str, arguments: Sequence[str]) -> list[str]:
    """Returns options with the configuration that a checkpoint was trained with.

    To resume a run, this is the run's complete configuration; otherwise tasks, data, and what the
    method needs without training. It may come from someone else, so it is checked.

    Args:
        checkpoint: The checkpoint file.
        command: `fit`, `validate`, `test` or `predict`.
        arguments: The arguments of the command. Classes that they name may be imported, and a
            configuration that they name needs no check.

    Raises:
        UserError: If the checkpoint cannot be read, its run has no complete configuration, or that
            names classes that are neither of mtl nor named in the arguments.
    """
    import_named_classes(named_values(arguments))
    content = read_checkpoint(checkpoint)
    if not content.get("datamodule_hyper_parameters"):
        raise UserError(
            f"{checkpoint}: it does not describe its data, because it was trained without a data "
            "module of mtl; `mtl predict --input FILE` needs no data module"
        )
    folder = run_folder_of(checkpoint)
    if command == "fit":
        check_callback_states(content, checkpoint)
        if folder and (folder / CONFIG).is_file():
            return _run_configuration(folder / CONFIG, arguments)
        if not named_files(arguments):
            raise UserError(
                f"--ckpt_path: {checkpoint} is resumed with the Trainer's options in the "
                f"{CONFIG} of its run, but there is none; restore it, or name the run's "
                "configuration with -c"
            )
    config = checkpoint_configuration(content, checkpoint, command)
    _report_outside_paths(config, checkpoint, folder)
    return ["--config", json.dumps(config)]


def checkpoint_configuration(
    content: Mapping[str, Any], checkpoint: Path, command: str
) -> dict[str, Any]:
    """Returns the configuration in a checkpoint, which may come from someone else, checked.

    Args:
        content: The content of the checkpoint.
        checkpoint: Its file, for messages.
        command: `fit`, `validate`, `test` or `predict`; for all but `fit` without what matters in
            training only.

    Raises:
        UserError: If it names classes that are neither of mtl nor imported.
    """
    model, data = content["hyper_parameters"], dict(content["datamodule_hyper_parameters"])
    _check_tasks(model["tasks"], checkpoint)
    config: dict[str, Any] = {name: model.get(name) for name in SHARED}
    config["seed_everything"] = data.pop("seed", 42)
    data.pop("train_only", None)  # an option of the method
    config |= {"model": _section(model, command), "data": _section(data, command)}
    check_classes(config, checkpoint)
    return config


def _check_tasks(tasks: Any, checkpoint: Path) -> None:
    """Checks the tasks in a checkpoint; the parser's messages would not name it."""
    for task in tasks if isinstance(tasks, list) else []:
        try:
            Task.read(task)
        except UserError as error:
            raise UserError(f"{checkpoint}: {error}") from error


def _run_configuration(file: Path, arguments: Sequence[str]) -> list[str]:
    """Options with the configuration of a run that is resumed."""
    if any(named.exists() and named.samefile(file) for named in named_files(arguments)):
        return []  # the user names it, and so trusts it
    config = read_run_configuration(file)
    if missing := [name for name in SECTIONS if name not in config]:
        raise UserError(
            f"{file} is incomplete: it has no {missing[0]!r}; restore it, or name the run's "
            "configuration with -c"
        )
    check_classes(config, file)
    check_written_paths(config, file.parent)
    _report_outside_paths(config, file, file.parent)
    return ["--config", yaml.safe_dump(config, default_flow_style=True, width=float("inf"))]


def _report_outside_paths(config: dict[str, Any], source: Path, folder: Path | None) -> None:
    """Prints the paths outside of the run's folder that its configuration names."""
    paths = outside_paths(config, folder)
    if paths:
        rank_zero_info(f"{source} uses paths outside of the run: {', '.join(dict.fromkeys(paths))}")


def load_weights(model: MultiTaskModule, checkpoint: str | None) -> None:
    """Loads the weights and the calibration of a checkpoint, not the state of its callbacks.

    Args:
        model: The method.
        checkpoint: The checkpoint file; None to leave the method as it is.
    """
    if checkpoint:
        loading.load_weights(model, read_checkpoint(Path(checkpoint)), Path(checkpoint))
        model.temperatures = read_temperatures(Path(checkpoint))


def _section(hyper_parameters: dict[str, Any], command: str) -> dict[str, Any]:
    """A class and its arguments, as a section of a configuration file."""
    training_only = () if command == "fit" else loading.TRAINING_ONLY
    excluded = (*SHARED, "_class_path", "_instantiator", *training_only)
    arguments = {name: value for name, value in hyper_parameters.items() if name not in excluded}
    return {"class_path": hyper_parameters["_class_path"], "init_args": arguments}
