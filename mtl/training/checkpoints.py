"""The one reader of checkpoint files."""

import hashlib
import pickle
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtl.errors import UserError


def read_checkpoint(path: Path, mmap: bool = True) -> dict[str, Any]:
    """Reads a checkpoint written by mtl; tensors are on the CPU, and no pickled code is executed.

    Args:
        path: The checkpoint file.
        mmap: Whether tensors stay in the file until they are used.

    Raises:
        UserError: If the file is damaged, or is not a checkpoint of mtl.
    """
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path}: cannot be read as a checkpoint: it is empty, truncated or another kind of "
            "file. Give a file that `mtl fit` wrote; a truncated file cannot be repaired."
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = pickled_objects(error) or "it is damaged, or another kind of file."
        raise UserError(
            f"{path}: cannot be read as a checkpoint: {reason} "
            "Give a file that `mtl fit` wrote; a truncated file cannot be repaired."
        ) from error
    return _checked(checkpoint, path)


def _checked(checkpoint: Any, path: Path) -> dict[str, Any]:
    """A checkpoint with all that mtl writes to each."""
    parts = checkpoint if isinstance(checkpoint, dict) else {}
    arguments, weights = parts.get("hyper_parameters"), parts.get("state_dict")
    if not isinstance(arguments, dict) or not {"_class_path", "tasks"} <= arguments.keys():
        raise UserError(f"{path}: not a checkpoint of mtl: it does not name its method and tasks")
    if not isinstance(weights, dict) or not isinstance(
        parts.get("datamodule_hyper_parameters", {}), dict
    ):
        raise UserError(f"{path}: not a checkpoint of mtl: it has no weights, or describes no data")
    return parts


def pickled_objects(error: Exception) -> str | None:
    """The message if torch refuses a file because of pickled objects; torch advises to load them.

    Args:
        error: The exception.
    """
    if "weights_only" in str(error) or "Weights only load failed" in str(error):
        return "it holds pickled objects, which are not loaded: they could execute code."
    return None


def check_callback_states(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Checks that the callbacks' states in a checkpoint name no files outside of its run.

    Lightning deletes the files that they name when better or newer checkpoints replace them.

    Args:
        checkpoint: The content of the checkpoint.
        path: Its file, for the message.

    Raises:
        UserError: If a state names an address, or a path with `..`.
    """
    for name in _strings(checkpoint.get("callbacks", {})):
        if "://" in name or "::" in name or ".." in Path(name).parts:
            raise UserError(
                f"{path}: the state of its callbacks names {name}, which `mtl fit` does not write; "
                "do not resume this run. --model.init_from reads its weights only"
            )


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def tensors_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """The SHA-256 of the names and the values (as fp32) of tensors, as hex digits."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().data)
    return digest.hexdigest()
