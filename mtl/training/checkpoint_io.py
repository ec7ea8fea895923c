"""Writes checkpoints so that a crash at any time leaves a complete one."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from mtl.errors import UserError
from mtl.training.run_folder import LAST, PREVIOUS, atomic_output, is_complete


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint next to its target, then renames it.

    Lightning writes to a temporary folder first and copies from there if that is on another disk; a
    crash then leaves a truncated file. When `last.ckpt` is replaced, the checkpoint before it is
    kept as `previous.ckpt`, in case the disk loses the newest one.
    """

    def save_checkpoint(
        self, checkpoint: Mapping[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Writes a checkpoint.

        Raises:
            UserError: If it cannot be written, for example because the disk is full.
        """
        path = Path(path)
        try:
            with atomic_output(path) as temporary:
                torch.save(checkpoint, temporary)
                if path.name == LAST and is_complete(path):
                    _keep(path, path.with_name(PREVIOUS))
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{path}: the checkpoint cannot be written ({reason}). Checkpoints that were "
                "written before are unchanged: free disk space, then resume with --ckpt_path "
                f"{path.parent.parent}"
            ) from error


def _keep(path: Path, previous: Path) -> None:
    """Keeps a file under another name as well."""
    if previous.exists() and previous.samefile(path):
        return  # a crash came between this and the replacement of `path`
    link = previous.with_name(f"{previous.name}.{os.getpid()}.part")
    try:
        os.link(path, link)
    except OSError:  # a file system without hard links; `find_checkpoint` looks for both names
        path.replace(previous)
    else:
        link.replace(previous)
