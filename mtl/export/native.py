"""A trained model as a directory that needs neither pickle nor hub: what `mtl export --format mtl` writes.

`mtl.json` says of which method and tasks the model is, `model.safetensors` holds all of its weights, the backbone's
included, and `backbone/` the backbone's configuration and tokenizer.
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from mtl.errors import UserError

MADE = "mtl.json"
WEIGHTS = "model.safetensors"
BACKBONE = "backbone"
# Raised when an older program could not read what a newer one writes.
FORMAT = 1


def is_exported(folder: Path) -> bool:
    """Whether a folder is such a directory."""
    return (folder / MADE).is_file()


def read_exported(folder: Path) -> dict[str, Any]:
    """What a checkpoint would hold of the model.

    Raises:
        UserError: If the directory is not whole, or of a newer mtl.
    """
    try:
        made = json.loads((folder / MADE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{folder / MADE}: cannot be read as JSON: {error}") from error
    if made.get("format") != FORMAT:
        raise UserError(
            f"{folder / MADE}: format {made.get('format')}, and this mtl reads {FORMAT}; install a newer one"
        )
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder}: {WEIGHTS} is missing; copy the whole directory")
    return {
        "hyper_parameters": {
            "_class_path": made["class_path"],
            **made["arguments"],
            "backbone": str(folder / BACKBONE),
        },
        "datamodule_hyper_parameters": {
            "max_length": made["max_length"],
            "encoding": {"class_path": made["encoding"]},
        },
        "state_dict": load_file(folder / WEIGHTS),
    }


def write_exported(folder: Path, module: nn.Module, made: dict[str, Any]) -> None:
    """Writes a model, but for its backbone's configuration and tokenizer.

    Args:
        folder: The directory.
        module: The method with its weights.
        made: `class_path` and `arguments` of the method, `max_length` and `encoding` (a class path) of its rows.
    """
    # Copies: safetensors refuses two names of one tensor.
    weights = {
        name: value.detach().cpu().clone().contiguous()
        for name, value in module.state_dict().items()
    }
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    (folder / MADE).write_text(
        json.dumps({"format": FORMAT, **made}, indent=2) + "\n", encoding="utf-8"
    )
