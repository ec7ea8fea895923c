"""The one reader of checkpoint files."""

import hashlib
import pickle
import zipfile
from collections.abc import Iterable
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
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or ["the file is empty"])[0]
        raise UserError(
            f"{path}: cannot be read as a checkpoint: {reason} "
            "Give a file that `mtl fit` wrote; a truncated file cannot be repaired."
        ) from error
    if not isinstance(checkpoint, dict) or "_class_path" not in checkpoint.get(
        "hyper_parameters", {}
    ):
        raise UserError(f"{path}: not a checkpoint of mtl: it does not name its method and tasks")
    return checkpoint


def tensors_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """The SHA-256 of the names and the values (as fp32) of tensors, as hex digits."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().data)
    return digest.hexdigest()
