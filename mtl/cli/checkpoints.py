"""From `--ckpt_path` to the configuration that the checkpoint was trained with."""

import json
from pathlib import Path
from typing import Any

from mtl.cli.class_options import option_value
from mtl.methods import MultiTaskModule
from mtl.training.checkpoints import read_checkpoint
from mtl.training.run_folder import CONFIG, find_checkpoint, run_folder_of

# Hyper-parameters of the method that are options of the command itself.
SHARED = ("tasks", "backbone", "score")


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


def configuration_options(checkpoint: Path, command: str) -> list[str]:
    """Returns options with the configuration that a checkpoint was trained with.

    To resume a run, this is the run's complete configuration; otherwise tasks, data and method.

    Args:
        checkpoint: The checkpoint file.
        command: `fit`, `validate`, `test` or `predict`.

    Raises:
        UserError: If the checkpoint cannot be read.
    """
    folder = run_folder_of(checkpoint)
    if command == "fit" and folder and (folder / CONFIG).is_file():
        return ["--config", str(folder / CONFIG)]
    content = read_checkpoint(checkpoint)
    model = content["hyper_parameters"]
    data = dict(content["datamodule_hyper_parameters"])
    config: dict[str, Any] = {name: model.get(name) for name in SHARED}
    config["seed_everything"] = data.pop("seed", 42)
    config |= {"model": _section(model), "data": _section(data)}
    return ["--config", json.dumps(config)]


def load_weights(model: MultiTaskModule, checkpoint: str | None) -> None:
    """Loads the weights of a checkpoint, and not the state of its callbacks.

    Args:
        model: The method.
        checkpoint: The checkpoint file; None to leave the method as it is.
    """
    if checkpoint:
        content = read_checkpoint(Path(checkpoint))
        model.on_load_checkpoint(content)
        model.load_state_dict(content["state_dict"])


def _section(hyper_parameters: dict[str, Any]) -> dict[str, Any]:
    """A class and its arguments, as a section of a configuration file."""
    excluded = (*SHARED, "_class_path", "_instantiator")
    arguments = {name: value for name, value in hyper_parameters.items() if name not in excluded}
    return {"class_path": hyper_parameters["_class_path"], "init_args": arguments}
