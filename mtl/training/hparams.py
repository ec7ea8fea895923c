"""What a checkpoint keeps of how its module was made: plain values, so that it loads with `weights_only=True`."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule


def keep_hyperparameters(
    module: LightningModule | LightningDataModule, frame: FrameType | None
) -> None:
    """Keeps the module's class and constructor arguments in its checkpoints.

    Made by the command line, a module keeps its part of the resolved configuration. Made in Python, it keeps the
    arguments that are plain values; objects (a balancer, an optimizer's factory) are left out, which prediction and
    evaluation do not need.

    Args:
        module: The module, or data module.
        frame: The frame of its `__init__`.
    """
    # Not logged: Lightning would write them to TensorBoard before there is a score to show beside them.
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*is an instance of `nn.Module`"
        )  # those are left out below
        module.save_hyperparameters(frame=frame, logger=False)
    kept = {name: _plain(value) for name, value in module.hparams.items()}
    cls = type(module)
    made_by = {
        "_class_path": f"{cls.__module__}.{cls.__qualname__}",
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
    }
    module.hparams.clear()
    module.hparams.update(
        made_by | {name: value for name, value in kept.items() if value is not _NOT_PLAIN}
    )


_NOT_PLAIN = object()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        items = {name: _plain(item) for name, item in value.items()}
        return items if _NOT_PLAIN not in items.values() else _NOT_PLAIN
    if isinstance(value, Sequence):
        parts = [_plain(item) for item in value]
        return parts if not any(part is _NOT_PLAIN for part in parts) else _NOT_PLAIN
    return _NOT_PLAIN
