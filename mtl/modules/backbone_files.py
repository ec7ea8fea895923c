"""What is wrong with the files and the weights of a backbone."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_warn
from safetensors import SafetensorError
from torch import nn

from mtl.errors import UserError
from mtl.training.checkpoints import pickled_objects

_LAYER = re.compile(r"\.\d+\.")
_GIVE = (
    "Give a name on the hub, or a directory with config.json, model.safetensors and tokenizer.json."
)


def check_folder(backbone: str, folder: Path) -> None:
    """Checks what a local backbone consists of.

    Args:
        backbone: The backbone as it is named.
        folder: Its path, which exists.

    Raises:
        UserError: If it is a file, a run, or has no configuration.
    """
    if not folder.is_dir():
        raise UserError(f"--backbone {backbone}: cannot be loaded: it is a file. {_GIVE}")
    if (folder / "config.json").is_file():
        return
    if (folder / "config.yaml").is_file():
        raise UserError(
            f"--backbone {backbone}: this is the folder of a run; to train from its weights, give "
            f"--model.init_from {backbone}, and its own --backbone"
        )
    raise UserError(f"--backbone {backbone}: cannot be loaded: it has no config.json. {_GIVE}")


def loading_error(
    backbone: str, folder: Path, error: Exception, unreachable: str | None
) -> UserError:
    """The refusal for a backbone that transformers cannot load.

    Args:
        backbone: The backbone as it is named.
        folder: Its path, if it is local.
        error: What transformers or safetensors raised.
        unreachable: Why the hub cannot be reached, if it was needed.
    """
    cached = f"it is not in the Hub's cache, and {unreachable}" if unreachable else None
    reason = cached or pickled_objects(error) or _in_folder(folder, error) or _reason(str(error))
    reason = " ".join(reason.split())
    return UserError(
        f"--backbone {backbone}: cannot be loaded: {reason}{'' if reason.endswith('.') else '.'} "
        f"{_GIVE}"
    )


def check_weights(backbone: str, model: nn.Module, unused: Iterable[str]) -> None:
    """Checks the weights of a loaded backbone.

    Args:
        backbone: The backbone as it is named.
        model: The model with its weights.
        unused: Names of the weights in the checkpoint that the model does not have.

    Raises:
        UserError: If a weight is not finite.
    """
    for name, weight in model.named_parameters():
        if weight.numel() and not torch.isfinite(torch.stack(torch.aminmax(weight.detach()))).all():
            raise UserError(
                f"--backbone {backbone}: the weight {name} holds values that are not finite; save "
                "the model again, or choose another one"
            )
    layers = {_LAYER.split(name)[0] for name in dict(model.named_parameters()) if _is_layer(name)}
    extra = [name for name in unused if _is_layer(name) and _layer_stack(name, layers)]
    if extra:
        rank_zero_warn(
            f"--backbone {backbone}: {len(extra)} weights of its checkpoint are not used, such as "
            f"{min(extra)}: config.json describes fewer layers"
        )


def _is_layer(name: str) -> bool:
    return bool(_LAYER.search(name))


def _layer_stack(name: str, layers: set[str]) -> bool:
    """Whether a weight is one of a stack of layers of the model."""
    stack = _LAYER.split(name)[0]
    return any(stack == each or stack.endswith(f".{each}") for each in layers)


def _in_folder(folder: Path, error: Exception) -> str | None:
    """What is wrong with a file in the folder; None if all files are what they should be."""
    if not folder.is_dir():
        return None
    for file in sorted(folder.iterdir()):
        if file.suffix not in (".json", ".safetensors", ".bin") or not file.is_file():
            continue
        with file.open("rb") as content:
            if content.read(24) == b"version https://git-lfs.":
                return f"{file.name} is a Git LFS pointer; fetch the file with `git lfs pull`"
        if file.suffix == ".json":
            try:
                json.loads(file.read_text(encoding="utf-8"))
            except ValueError as problem:
                return f"{file.name} is not valid JSON: {problem}"
    if isinstance(error, SafetensorError):
        return f"its weights are truncated or damaged ({error}); copy them again"
    return None


def _reason(text: str) -> str:
    """What transformers reports, without advice that does not apply here."""
    if "ignore_mismatched_sizes" in text:
        return "the sizes of its weights are not those that config.json describes"
    if "custom code" in text or "trust_remote_code" in text:
        return "its model type needs code from that repository, which mtl never executes"
    return " ".join(text.splitlines()[:2])
