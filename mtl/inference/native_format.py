"""The native export format: the directory that `mtl export --format mtl` writes.

- `mtl.json`: the class and arguments of the method, the tasks, and how texts are encoded.
- `model.safetensors`: all weights of the method, including those of the backbone.
- `backbone/`: configuration and tokenizer of the backbone.

Loading such a directory needs neither pickle nor access to a model hub.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mtl.errors import UserError
from mtl.inference.options import MANIFEST

WEIGHTS = "model.safetensors"
BACKBONE = "backbone"
# Increase this when older versions of mtl cannot read what is written.
FORMAT = 1


def is_exported(folder: Path) -> bool:
    """Whether a folder holds a native export."""
    return (folder / MANIFEST).is_file()


def read_exported(folder: Path) -> dict[str, Any]:
    """Reads a native export as the contents of an equivalent checkpoint.

    Raises:
        UserError: If the directory is incomplete, or was written in another version of the format.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{folder / MANIFEST}: cannot be read as JSON: {error}") from error
    needed = ("class_path", "arguments", "max_length", "encoding")
    if not isinstance(manifest, dict) or any(name not in manifest for name in needed):
        raise UserError(f"{folder / MANIFEST}: incomplete; copy the complete directory")
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{folder / MANIFEST}: format {manifest.get('format')} is not supported, this version "
            f"of mtl reads format {FORMAT}; install a newer version of mtl"
        )
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder}: {WEIGHTS} is missing; copy the complete directory")
    return {
        "hyper_parameters": {
            "_class_path": manifest["class_path"],
            **manifest["arguments"],
            "backbone": str(folder / BACKBONE),
        },
        "datamodule_hyper_parameters": {
            "max_length": manifest["max_length"],
            "encoding": {
                "class_path": manifest["encoding"],
                "init_args": manifest.get("encoding_arguments", {}),
            },
        },
        "temperatures": manifest.get("temperatures", {}),
        "state_dict": _read_weights(folder / WEIGHTS),
    }


def _read_weights(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise UserError(f"{file}: truncated or damaged ({error}); copy it again") from error


def write_exported(folder: Path, module: nn.Module, manifest: dict[str, Any]) -> None:
    """Writes the weights and `mtl.json`. The caller writes `backbone/`.

    Args:
        folder: The directory.
        module: The method with its weights.
        manifest: `class_path` and `arguments` of the method, `max_length`, `encoding` (a class
            path), `encoding_arguments` and `temperatures` of calibrated tasks.
    """
    # safetensors rejects tensors that share memory, so each tensor is copied.
    weights = {
        name: value.detach().cpu().clone().contiguous()
        for name, value in module.state_dict().items()
    }
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    (folder / MANIFEST).write_text(
        json.dumps({"format": FORMAT, **manifest}, indent=2) + "\n", encoding="utf-8"
    )
