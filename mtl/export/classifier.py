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
from mtl.export.layouts import CLASSIFIERS, MULTIPLE_CHOICE, Layout

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
    family = parts.config.model_type
    is_choice = parts.problem_type == "multiple_choice"
    layout = (MULTIPLE_CHOICE if is_choice else CLASSIFIERS).get(family)
    if layout is None:
        raise UserError(
            f"the layout of transformers' classifier for {family} is not known to mtl; "
            f"{ALTERNATIVE}"
        )
    _check_layers(family, parts, layout)
    auto_class = AutoModelForMultipleChoice if is_choice else AutoModelForSequenceClassification
    model: PreTrainedModel = auto_class.from_config(_config(parts))
    model.base_model.load_state_dict(parts.weights, strict=False)
    layers = ClassifierLayers(
        cast(nn.Linear, model.get_submodule(layout.dense)),
        cast(nn.Linear, model.get_submodule(layout.out)),
    )
    with torch.no_grad():
        if parts.pooling == "pooler":
            _fill(layers.dense, _pooler(parts.weights))
            _fill(layers.out, parts.head[-1])
        elif len(parts.head) == 2:
            _fill(layers.dense, parts.head[0])
            _fill(layers.out, parts.head[1])
        elif family == "modernbert":
            norm = cast(nn.LayerNorm, model.get_submodule("head.norm"))
            _pass_through_normalization(layers, norm, parts.head[0])
        else:
            _pass_through_activation(layers, layout.activation, parts.head[0])
    return model.eval()


def is_trainable(parts: ClassifierParts) -> bool:
    """Whether the exported head has the trained weights, so that it can be fine-tuned further."""
    return parts.pooling == "pooler" or len(parts.head) == 2


def _check_layers(family: str, parts: ClassifierParts, layout: Layout) -> None:
    hidden = len(parts.head) - 1
    if parts.pooling == "mean" and family != "modernbert":
        raise UserError(
            f"transformers' classifier for {family} reads the first token, but this model was "
            f"trained with the mean over tokens; train with --model.pooling cls, or {ALTERNATIVE}"
        )
    has_relu_layer = parts.pooling != "pooler" and layout.activation == "relu"
    if hidden and not (hidden == 1 and has_relu_layer):
        raise UserError(
            f"transformers' classifier for {family} cannot hold a head with {hidden} hidden ReLU "
            f"layer(s); {ALTERNATIVE}"
        )


def _config(parts: ClassifierParts) -> PretrainedConfig:
    config = copy.deepcopy(parts.config)
    options = {
        "dtype": torch.float32,
        "id2label": dict(enumerate(parts.labels)),
        "label2id": {label: index for index, label in enumerate(parts.labels)},
    }
    if parts.problem_type != "multiple_choice":  # the other classes read it
        options["problem_type"] = parts.problem_type
    if config.model_type == "electra":
        options |= {
            "summary_type": "first",
            "summary_use_proj": True,
            "summary_activation": MULTIPLE_CHOICE["electra"].activation,
        }
    if config.model_type == "modernbert":
        options |= {
            "classifier_pooling": parts.pooling,
            "classifier_activation": "linear",
            "classifier_bias": True,
        }
    if config.model_type.startswith("deberta"):
        options["pooler_hidden_act"] = "gelu"
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
