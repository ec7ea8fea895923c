"""Build the classifier of transformers that computes the logits of one task.

It is an `AutoModelForSequenceClassification`, or for multiple choice `AutoModelForMultipleChoice`.

The heads of mtl are linear in the pooled vector of an example. The classes of transformers have a
dense layer and a non-linearity f in between, which cannot be switched off. The dense layer is wider
than the number of logits, and its weights are chosen such that the logits pass through f unchanged:

* relu and gelu: f(z) - f(-z) = z. Half of the units that are used hold z, the other half -z.
* tanh: tanh(e z) / e = z (1 - (e z)^2 / 3 + ...). With e = 2^-24 the remainder is below the
  rounding error of fp32, and scaling by a power of two is exact in floating point.
* A layer normalization after the dense layer (ModernBERT): the remaining units are set to large
  constants, which dominate the variance, so that it does not depend on z.

The classes of most causal models have one layer, without a bias, and so do our heads for them.

Source: the identities are elementary; the layouts are those of transformers' classes.
"""

import copy
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from mtl.errors import UserError
from mtl.export.extraction import ALTERNATIVE, ClassifierParts, LinearWeights
from mtl.modules.family_table import FAMILIES, ClassifierLayout

SMALL = 2.0**-24
LARGE = 2.0**20


class ClassifierLayers(NamedTuple):
    """The layers of a classifier to be filled."""

    dense: nn.Linear
    out: nn.Linear


def build_classifier(parts: ClassifierParts) -> PreTrainedModel:
    """Builds a model of transformers that computes the same logits.

    Args:
        parts: The encoder and the head.

    Raises:
        UserError: If the model family has no class that can compute them.
    """
    model_type, layout = parts.config.model_type, _layout(parts)
    if layout is None:
        raise UserError(
            f"the layout of transformers' classifier for {model_type} is not known to mtl; "
            f"{ALTERNATIVE}"
        )
    _check_layers(layout, parts)
    is_choice = parts.problem_type == "multiple_choice"
    auto_class = AutoModelForMultipleChoice if is_choice else AutoModelForSequenceClassification
    model: PreTrainedModel = auto_class.from_config(_config(layout, parts))
    model.base_model.load_state_dict(parts.weights, strict=False)
    out = cast(nn.Linear, model.get_submodule(layout.out))
    if layout.dense is None:
        _fill_single_layer(out, parts.head[-1], model_type)
        return model.eval()
    layers = ClassifierLayers(cast(nn.Linear, model.get_submodule(layout.dense)), out)
    with torch.no_grad():
        if parts.pooling == "pooler":
            _fill(layers.dense, _pooler(parts.weights))
            _fill(layers.out, parts.head[-1])
        elif len(parts.head) == 2:
            _fill(layers.dense, parts.head[0])
            _fill(layers.out, parts.head[1])
        elif layout.norm is not None:
            norm = cast(nn.LayerNorm, model.get_submodule(layout.norm))
            _pass_through_normalization(layers, norm, parts.head[0])
        else:
            _pass_through_activation(layers, layout.activation, parts.head[0])
    return model.eval()


def is_trainable(parts: ClassifierParts) -> bool:
    """Whether the exported head has the trained weights, so that it can be fine-tuned further."""
    layout = _layout(parts)
    single_layer = layout is not None and layout.dense is None
    return parts.pooling == "pooler" or len(parts.head) == 2 or single_layer


def _layout(parts: ClassifierParts) -> ClassifierLayout | None:
    family = FAMILIES.get(parts.config.model_type)
    if family is None:
        return None
    return family.choice if parts.problem_type == "multiple_choice" else family.classifier


def _check_layers(layout: ClassifierLayout, parts: ClassifierParts) -> None:
    hidden, model_type = len(parts.head) - 1, parts.config.model_type
    if parts.pooling not in (*layout.reads, "pooler"):
        reads = {"cls": "first", "last": "last"}[layout.reads[0]]
        trained = "the mean over tokens" if parts.pooling == "mean" else f"{parts.pooling!r}"
        raise UserError(
            f"transformers' classifier for {model_type} reads the {reads} token, but this model "
            f"was trained with {trained}; train with --model.pooling {layout.reads[0]}, or "
            f"{ALTERNATIVE}"
        )
    has_relu_layer = parts.pooling != "pooler" and layout.activation == "relu"
    if hidden and not (hidden == 1 and has_relu_layer):
        raise UserError(
            f"transformers' classifier for {model_type} cannot hold a head with {hidden} hidden "
            f"ReLU layer(s); {ALTERNATIVE}"
        )


def _config(layout: ClassifierLayout, parts: ClassifierParts) -> PretrainedConfig:
    config = copy.deepcopy(parts.config)
    options = {
        "dtype": torch.float32,
        "id2label": dict(enumerate(parts.labels)),
        "label2id": {label: index for index, label in enumerate(parts.labels)},
        **layout.settings,
    }
    if parts.problem_type != "multiple_choice":  # the other classes read it
        options["problem_type"] = parts.problem_type
    if parts.pooling in layout.pooling_names:
        options["classifier_pooling"] = layout.pooling_names[parts.pooling]
    for name, value in options.items():
        setattr(config, name, value)
    return config


def _pooler(weights: dict[str, Tensor]) -> LinearWeights:
    by_name = {
        name.rpartition(".")[2]: value
        for name, value in weights.items()
        if name.startswith("pooler.")
    }
    return LinearWeights(by_name["weight"], by_name["bias"])


def _fill_single_layer(out: nn.Linear, head: LinearWeights, model_type: str) -> None:
    if head.bias.any():
        raise UserError(
            f"transformers' classifier for {model_type} has no bias, which tuned thresholds need; "
            f"train without thresholds: tuned, or {ALTERNATIVE}"
        )
    out.load_state_dict({"weight": head.weight})


def _fill(layer: nn.Linear, weights: LinearWeights) -> None:
    layer.load_state_dict({"weight": weights.weight, "bias": weights.bias})


def _pass_through_activation(
    layers: ClassifierLayers, activation: str, head: LinearWeights
) -> None:
    identity = torch.eye(len(head.weight))
    if activation == "tanh":
        _compose(layers, SMALL * identity, identity / SMALL, head)
    else:
        _compose(
            layers, torch.cat([identity, -identity]), torch.cat([identity, -identity], 1), head
        )


def _pass_through_normalization(
    layers: ClassifierLayers, norm: nn.LayerNorm, head: LinearWeights
) -> None:
    dense, out = layers
    identity = torch.eye(len(head.weight))
    _compose(layers, torch.cat([identity, -identity]), torch.cat([identity, -identity], 1), head)
    used, width = 2 * len(head.weight), len(dense.bias)
    constants = (width - used) // 2 * 2  # as many positive as negative ones, so that the mean is 0
    dense.bias[used : used + constants : 2] = LARGE
    dense.bias[used + 1 : used + constants : 2] = -LARGE
    deviation = (constants / width * LARGE**2 + norm.eps) ** 0.5
    norm.load_state_dict(
        {name: value.fill_(name == "weight") for name, value in norm.state_dict().items()}
    )
    out.weight.mul_(deviation / 2)


def _compose(layers: ClassifierLayers, before: Tensor, after: Tensor, head: LinearWeights) -> None:
    """Makes the layers compute `after f(before (W x + b))`; weights of unused units are zero."""
    dense, out = layers
    for value in (*dense.parameters(), *out.parameters()):
        value.zero_()
    used = len(before)
    if used >= len(dense.bias):
        raise UserError(
            f"{len(head.weight)} classes are too many for a layer of width {len(dense.bias)}; "
            f"{ALTERNATIVE}"
        )
    dense.weight[:used] = before @ head.weight
    dense.bias[:used] = before @ head.bias
    out.weight[:, :used] = after
