"""The configurations in configs/, and what they need to run on the toy tasks of the tests."""

from pathlib import Path
from typing import Any

import yaml

import mtl.methods
from mtl.tasks import Task

CONFIGS = Path(__file__).parents[2] / "configs"
# Options that a scheme needs for the toy tasks.
REQUIRED_OPTIONS = {
    "annealed": ["--trainer.max_epochs", "2"],
    "uncertainty": ["--data.regression", "{near: same}"],
    "k_shot": ["--data.k", "4"],
    "leave_one_out": ["--data.k", "4", "--data.held_out", "same"],
}


def files(folder: str) -> list[Path]:
    """The files of a folder of configs/."""
    return sorted((CONFIGS / folder).glob("*.yaml"))


def names(folder: str) -> list[str]:
    """The names of the files of a folder of configs/, without suffix."""
    return [path.stem for path in files(folder)]


def options(folder: str, name: str) -> list[str]:
    """The arguments that add a file of configs/ to a command."""
    return ["-c", str(CONFIGS / folder / f"{name}.yaml")]


def method_class(name: str) -> Any:
    """The class of a method by its file's name."""
    config = yaml.safe_load((CONFIGS / "methods" / f"{name}.yaml").read_text())
    return getattr(mtl.methods, config["model"]["class_path"])


def supported(method: str, task_files: list[Path]) -> list[Path]:
    """The tasks that a method can train."""
    kinds = method_class(method).supported_kinds
    return [
        file
        for file in task_files
        if all(isinstance(task.kind, kinds) for task in Task.read_all(file))
    ]
