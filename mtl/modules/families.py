"""Families of backbones: looks up and finds their modules by `family_table`."""

import re
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from mtl.errors import UserError
from mtl.modules.family_table import FAMILIES, REQUIREMENTS, Family

_LAYER = re.compile(r"\b(?:layers?|h|albert_layer_groups)\.(\d+)\.")


def supports(method: str, family: Family) -> bool:
    """Whether a method can modify a family."""
    return REQUIREMENTS.get(method, lambda family: True)(family)


def family(model_type: str, method: str) -> Family:
    """Returns the family of a `model_type`.

    Args:
        model_type: The `model_type` of the backbone's configuration.
        method: Name of the method that modifies its modules.

    Raises:
        UserError: If it is not in the table, or the method cannot modify it.
    """
    found = FAMILIES.get(model_type)
    if found is None or not supports(method, found):
        supported = ", ".join(name for name, each in FAMILIES.items() if supports(method, each))
        raise UserError(
            f"{method}: unsupported backbone family: {model_type}. Supported: {supported}."
        )
    return found


def has_pooler(model_type: str) -> bool:
    """Whether a family has a pretrained pooling layer."""
    return model_type in FAMILIES and FAMILIES[model_type].pooler


def classifier_has_bias(model_type: str) -> bool:
    """Whether transformers' classifier of a family has a bias; heads of mtl have one as well."""
    layout = FAMILIES[model_type].classifier if model_type in FAMILIES else None
    return layout is None or layout.bias


def layers(backbone: Any, method: str) -> list[nn.Module]:
    """Returns the layers of a backbone, each once if several share their weights.

    Args:
        backbone: The pretrained model.
        method: Name of the method that modifies them.

    Raises:
        UserError: If the method cannot modify the family.
    """
    outer, _, inner = family(backbone.config.model_type, method).layers.partition(".*.")
    found = list(backbone.get_submodule(outer).children())
    return [each for group in found for each in group.get_submodule(inner)] if inner else found


def embeddings(backbone: Any, method: str) -> nn.Module:
    """Returns the module whose output is the input of the first layer.

    Args:
        backbone: The pretrained model.
        method: Name of the method that modifies it.

    Raises:
        UserError: If the method cannot modify the family.
    """
    module: nn.Module = backbone.get_submodule(
        family(backbone.config.model_type, method).embeddings
    )
    return module


def layer_index(name: str) -> int | None:
    """Index of the layer that a parameter belongs to, by its name; None if to no layer."""
    match = _LAYER.search(name)
    return int(match[1]) if match else None


def in_embeddings(name: str) -> bool:
    """Whether a parameter of this name belongs to the embeddings."""
    return layer_index(name) is None and bool(re.search(r"embed|\bw[tp]e\b", name))


def linear_shape(layer: nn.Module) -> tuple[int, int] | None:
    """Input and output size of a linear layer; None for other modules."""
    if isinstance(layer, Conv1D):  # GPT-2's linear layers, with the transposed weight
        return layer.weight.shape[0], layer.weight.shape[1]
    return (layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else None
