"""A task's encoder and head as the `AutoModelForSequenceClassification` of its family.

Our head is linear on a row's vector. Transformers' classes have one more dense layer in between, with a non-linearity f
that cannot be switched off, yet can be passed unharmed, for a head has far fewer outputs than the layer is wide:

* relu and gelu: f(z) - f(-z) = z. One half of the used outputs of the layer is z, the other -z.
* tanh: tanh(e z) / e = z (1 - (e z)^2 / 3 + ...). With e = 2^-24 the rest is less than what fp32 rounds off, and a power of
  two costs a floating-point number no digit.
* a layer normalisation (ModernBERT) after it: z beside large constants, whose variance then hides that of z.

Source: the identities are elementary; the classes are those of transformers, whose names stand in `LAYOUTS`.
"""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from mtl.errors import UserError
from mtl.export.extraction import OTHERWISE, Parts

SMALL = 2.0**-24
LARGE = 2.0**20


class Layout(NamedTuple):
    """Where a family's classifier has its layers.

    Attributes:
        dense: The dense layer on a row's vector.
        out: The linear layer that gives the logits.
        activation: What stands between them.
    """

    dense: str
    out: str
    activation: str


_ROBERTA = Layout("classifier.dense", "classifier.out_proj", "tanh")
LAYOUTS = {
    "albert": Layout("albert.pooler", "classifier", "tanh"),
    "bert": Layout("bert.pooler.dense", "classifier", "tanh"),
    "camembert": _ROBERTA,
    "data2vec-text": _ROBERTA,
    "deberta": Layout("pooler.dense", "classifier", "gelu"),
    "deberta-v2": Layout("pooler.dense", "classifier", "gelu"),
    "distilbert": Layout("pre_classifier", "classifier", "relu"),
    "electra": Layout("classifier.dense", "classifier.out_proj", "gelu"),
    "ernie": Layout("ernie.pooler.dense", "classifier", "tanh"),
    "modernbert": Layout("head.dense", "classifier", "linear"),
    "mpnet": _ROBERTA,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "xlm-roberta-xl": _ROBERTA,
}


def classifier(parts: Parts, classes: list[str], several: bool = False) -> PreTrainedModel:
    """The same function as an `AutoModelForSequenceClassification`.

    Args:
        parts: The encoder and the head.
        classes: Names of the classes; none for a regression.
        several: Whether each class is a yes or no of its own.

    Raises:
        UserError: If the family has no class in which the function can be put.
    """
    family = parts.config.model_type
    if family not in LAYOUTS:
        raise UserError(f"no layout is known of transformers' classifier for {family}; {OTHERWISE}")
    _refuse_pooling(family, parts)
    config = _config(parts, classes, several)
    model = AutoModelForSequenceClassification.from_config(config)
    model.base_model.load_state_dict(parts.weights, strict=False)
    layout = LAYOUTS[family]
    dense, out = model.get_submodule(layout.dense), model.get_submodule(layout.out)
    with torch.no_grad():
        if parts.pooling == "pooler":
            own = {
                name.rpartition(".")[2]: value
                for name, value in parts.weights.items()
                if name.startswith("pooler.")
            }
            _fill(dense, own["weight"], own["bias"])
            _fill(out, *parts.head[-1])
        elif len(parts.head) == 2:
            _fill(dense, *parts.head[0])
            _fill(out, *parts.head[1])
        elif family == "modernbert":
            _past_normalisation(model, dense, out, *parts.head[0])
        else:
            _past_activation(layout.activation, dense, out, *parts.head[0])
    return model.eval()


def fits_unchanged(parts: Parts) -> bool:
    """Whether the head stands in transformers' class as it is, so that the exported model can be trained further."""
    return parts.pooling == "pooler" or len(parts.head) == 2


def _refuse_pooling(family: str, parts: Parts) -> None:
    hidden = len(parts.head) - 1
    if parts.pooling == "mean" and family != "modernbert":
        raise UserError(
            f"transformers' classifier for {family} reads the first token, and this model the mean over tokens; train with "
            f"--model.pooling cls, or {OTHERWISE}"
        )
    if hidden and not (
        hidden == 1 and parts.pooling != "pooler" and LAYOUTS[family].activation == "relu"
    ):
        raise UserError(
            f"transformers' classifier for {family} has no place for {hidden} hidden layer(s) with ReLU; {OTHERWISE}"
        )


def _config(parts: Parts, classes: list[str], several: bool) -> PretrainedConfig:
    config: Any = copy.deepcopy(parts.config)
    config.dtype = torch.float32
    names = classes or ["value"]
    config.id2label = dict(enumerate(names))
    config.label2id = {name: place for place, name in enumerate(names)}
    kinds = "multi_label_classification" if several else "single_label_classification"
    config.problem_type = kinds if classes else "regression"
    if config.model_type == "modernbert":
        config.classifier_pooling = parts.pooling
        config.classifier_activation, config.classifier_bias = "linear", True
    if config.model_type.startswith("deberta"):
        config.pooler_hidden_act = "gelu"
    return config


def _fill(layer: nn.Module, weight: Tensor, bias: Tensor) -> None:
    layer.load_state_dict({"weight": weight, "bias": bias})


def _past_activation(
    activation: str, dense: nn.Module, out: nn.Module, weight: Tensor, bias: Tensor
) -> None:
    if activation == "tanh":
        there, back = SMALL * torch.eye(len(weight)), torch.eye(len(weight)) / SMALL
    else:
        one = torch.eye(len(weight))
        there, back = torch.cat([one, -one]), torch.cat([one, -one], 1)
    _through(dense, out, there, back, weight, bias)


def _past_normalisation(
    model: nn.Module, dense: nn.Module, out: nn.Module, weight: Tensor, bias: Tensor
) -> None:
    one = torch.eye(len(weight))
    _through(dense, out, torch.cat([one, -one]), torch.cat([one, -one], 1), weight, bias)
    used, width = 2 * len(weight), len(dense.bias)  # type: ignore[arg-type]
    constants = (width - used) // 2 * 2  # as many above as below zero, so that the mean stays 0
    dense.bias[used : used + constants : 2] = LARGE  # type: ignore[index,operator]
    dense.bias[used + 1 : used + constants : 2] = -LARGE  # type: ignore[index,operator]
    norm = model.get_submodule("head.norm")
    deviation = (constants / width * LARGE**2 + norm.eps) ** 0.5  # type: ignore[operator]
    norm.load_state_dict(
        {name: value.fill_(name == "weight") for name, value in norm.state_dict().items()}
    )
    out.weight.mul_(deviation / 2)  # type: ignore[operator,union-attr]


def _through(
    dense: nn.Module, out: nn.Module, there: Tensor, back: Tensor, weight: Tensor, bias: Tensor
) -> None:
    """Lets the two layers give `back f(there (W x + b))`; what they do not need of their width is zero."""
    for value in (*dense.parameters(), *out.parameters()):
        value.zero_()
    if len(there) >= len(dense.bias):  # type: ignore[arg-type]
        raise UserError(
            f"{len(weight)} classes are too many for a layer of width {len(dense.bias)}; {OTHERWISE}"
        )  # type: ignore[arg-type]
    dense.weight[: len(there)] = there @ weight  # type: ignore[index,operator]
    dense.bias[: len(there)] = there @ bias  # type: ignore[index,operator]
    out.weight[:, : len(there)] = back  # type: ignore[index,operator]
