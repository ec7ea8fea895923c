"""Hyper-parameters in checkpoints: plain values, which load with `weights_only=True`."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

_NOT_PLAIN = object()


def save_plain_hyperparameters(
    module: LightningModule | LightningDataModule, frame: FrameType | None
) -> None:
    """Saves a module's class and constructor arguments in `module.hparams`, for its checkpoints.

    A module created by the command line saves its section of the resolved configuration. A module
    created in Python saves the arguments that are plain values. Objects (a balancer, an optimizer
    factory) are dropped; prediction and evaluation do not need them.

    Args:
        module: The module, or data module.
        frame: The frame of its `__init__`.
    """
    with warnings.catch_warnings():
        # Arguments that are modules are dropped below.
        warnings.filterwarnings("ignore", message=".*is an instance of `nn.Module`")
        # Not logged: Lightning would write them to TensorBoard before there is a score to show next
        # to them.
        module.save_hyperparameters(frame=frame, logger=False)
    arguments = {name: _plain_value(value) for name, value in module.hparams.items()}
    cls = type(module)
    module.hparams.clear()
    module.hparams.update(
        _class_path=f"{cls.__module__}.{cls.__qualname__}",
        # Lightning's name for the function that creates a module from these entries.
        _instantiator="lightning.pytorch.cli.instantiate_module",
    )
    module.hparams.update(
        {name: value for name, value in arguments.items() if value is not _NOT_PLAIN}
    )


def _plain_value(value: Any) -> Any:
    """Returns the value as numbers, strings, lists and dicts, or `_NOT_PLAIN`."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _plain_value(asdict(value))
    if isinstance(value, dict):
        items = {name: _plain_value(item) for name, item in value.items()}
        return items if _NOT_PLAIN not in items.values() else _NOT_PLAIN
    if isinstance(value, Sequence):
        elements = [_plain_value(item) for item in value]
        return elements if not any(item is _NOT_PLAIN for item in elements) else _NOT_PLAIN
    return _NOT_PLAIN
