"""The backbone of an exported model: its configuration, its tokenizer and its public name."""

from pathlib import Path

from transformers import PretrainedConfig, PreTrainedModel

from mtl.errors import UserError
from mtl.inference.predictor import Predictor
from mtl.methods import MultiTaskModule
from mtl.modules.backbone import load_tokenizer
from mtl.system.bundled_encoder import BUNDLED, BUNDLED_NAME
from mtl.tasks.task import Truncation


def public_name(backbone: str) -> str:
    """The name of a backbone as others can use it: for a local directory, its last component."""
    if backbone == BUNDLED:
        return BUNDLED_NAME
    return Path(backbone).name if Path(backbone).exists() else backbone


def backbone_config(method: MultiTaskModule) -> PretrainedConfig:
    """The configuration of the method's backbone (all backbones of a method are alike)."""
    return next(module.config for module in method.modules() if isinstance(module, PreTrainedModel))


def save_tokenizer(
    predictor: Predictor, folder: Path, max_length: int, truncation: Truncation = "right"
) -> None:
    """Saves the tokenizer of the backbone.

    Args:
        predictor: The trained model.
        folder: Folder to write to.
        max_length: Length in tokens at which it truncates.
        truncation: What it cuts.

    Raises:
        UserError: If tokenizers cannot truncate like this.
    """
    if truncation == "head_tail":
        raise UserError(
            "truncation: head_tail: tokenizers of transformers cut the start or the end of a text, "
            "not its middle; export it with --format mtl"
        )
    # Loaded again, since a tokenizer remembers the truncation and padding of its last call.
    tokenizer = load_tokenizer(predictor.module.backbone_name)
    tokenizer.model_max_length = max_length
    tokenizer.truncation_side = truncation
    tokenizer.padding_side = "right"  # as in training; positions are counted from the left
    tokenizer.save_pretrained(folder)
