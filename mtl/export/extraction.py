"""Extract the encoder and the linear head that compute the logits of one task.

Methods, heads and losses are accepted by their exact type: a new method, even a subclass of an
exportable one, is rejected until an extractor is added to `EXTRACTORS`, since it may compute
something else.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, cast

from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.pytorch_utils import Conv1D

from mtl.errors import UserError
from mtl.methods import (
    CAMTL,
    Adapters,
    DomainAdversarial,
    Joint,
    LoRA,
    MetaFineTuning,
    MTLLoRA,
    MultiHead,
    MultiTaskModule,
    PALs,
    Separate,
    TaskLayers,
)
from mtl.modules import Encoder, LinearHead, PerTask
from mtl.modules.adapters import LowRankMatrices
from mtl.modules.backbone_checks import Pooling
from mtl.modules.binary_losses import Binary
from mtl.modules.heads import ChoiceHead
from mtl.modules.losses import CrossEntropy, SquaredError
from mtl.modules.multi_label_losses import BinaryCrossEntropy
from mtl.modules.multi_task_lora import MultiTaskLowRank
from mtl.modules.token_losses import TokenCrossEntropy
from mtl.tasks import Task

ALTERNATIVE = "export it with --format mtl, for mtl.load, or add --onnx to that"
ProblemType = Literal[
    "single_label_classification",
    "multi_label_classification",
    "regression",
    "token_classification",
    "multiple_choice",
]


class LinearWeights(NamedTuple):
    """The parameters of a linear layer.

    Attributes:
        weight: Shape (outputs, inputs).
        bias: Shape (outputs,).
    """

    weight: Tensor
    bias: Tensor


class ClassifierParts(NamedTuple):
    """An encoder and a head that compute the logits of one task.

    Attributes:
        config: Configuration of the backbone.
        weights: State dict of the backbone.
        pooling: How token states become one vector per example.
        head: The linear layers of the head, with a ReLU between two of them.
        problem_type: What the logits mean, as transformers' `config.problem_type`.
        labels: Names of the logits.
    """

    config: PretrainedConfig
    weights: dict[str, Tensor]
    pooling: Pooling
    head: list[LinearWeights]
    problem_type: ProblemType
    labels: list[str]


def extract_classifier(method: MultiTaskModule, task: Task) -> ClassifierParts:
    """Extracts what computes the logits of a task.

    Args:
        method: The method with its weights.
        task: The task.

    Raises:
        UserError: If no class of transformers can compute the logits of the method, or those of the
            task's head.
    """
    if not is_extractable(method):
        raise UserError(why_not_extractable(method))
    return EXTRACTORS[type(method)](method, task)


def is_extractable(method: MultiTaskModule) -> bool:
    """Whether a classifier can be extracted from methods of exactly this type."""
    return type(method) in EXTRACTORS


def why_not_extractable(method: MultiTaskModule) -> str:
    """The error message for a method that has no extractor."""
    name = type(method).__name__
    reason = REASONS.get(type(method), f"no export is defined for {name}")
    return f"{name} cannot be exported for transformers: {reason}; {ALTERNATIVE}"


def _from_multi_head(method: MultiHead, task: Task) -> ClassifierParts:
    return _parts(method, task, method.encoder, method.heads[task.name])


def _from_separate(method: Separate, task: Task) -> ClassifierParts:
    return _parts(method, task, method.encoders[task.name], method.heads[task.name])


def _from_joint(method: Joint, task: Task) -> ClassifierParts:
    """The rows of the shared classifier that belong to the task's classes."""
    parts = _parts(method, task, method.encoder, method.head)
    rows = method.classes[task.name]
    last = parts.head[-1]
    return parts._replace(
        head=[*parts.head[:-1], LinearWeights(last.weight[rows], last.bias[rows])]
    )


def frozen_parts(method: MultiHead, task: Task) -> ClassifierParts:
    """The encoder without the low-rank updates, and the head of a task."""
    return _parts(method, task, method.encoder, method.heads[task.name])


def lora_updates(method: LoRA, task: Task) -> dict[str, LowRankMatrices]:
    """The low-rank updates that a task uses, by the name of the linear layer in the backbone."""
    return {
        layer.replace("/", "."): cast(
            LowRankMatrices, change[task.name] if isinstance(change, PerTask) else change
        )
        for layer, change in method.changes.items()
    }


def _from_lora(method: LoRA, task: Task) -> ClassifierParts:
    """The low-rank updates are added to the weights of the backbone."""
    updates = lora_updates(method, task)
    return _with_updates(method, task, {name: each.merged() for name, each in updates.items()})


def _from_mtl_lora(method: MTLLoRA, task: Task) -> ClassifierParts:
    """The task's mix of low-rank updates is added to the weights of the backbone."""
    changes = cast(dict[str, MultiTaskLowRank], method.changes)
    updates = {name.replace("/", "."): each.merged(task.name) for name, each in changes.items()}
    return _with_updates(method, task, updates)


def _with_updates(method: MultiHead, task: Task, updates: Mapping[str, Tensor]) -> ClassifierParts:
    """The method without its updates, with matrices added to the weights of linear layers."""
    parts = frozen_parts(method, task)
    weights = dict(parts.weights)
    for name, update in updates.items():
        matrix = update.detach()
        if isinstance(method.encoder.backbone.get_submodule(name), Conv1D):
            matrix = matrix.T  # GPT-2's linear layers have transposed weights
        weights[f"{name}.weight"] = weights[f"{name}.weight"] + matrix
    return parts._replace(weights=weights)


# Each extractor takes a method of the type that is its key.
Extractor = Callable[[Any, Task], ClassifierParts]
EXTRACTORS: dict[type[MultiTaskModule], Extractor] = {
    MultiHead: _from_multi_head,
    Separate: _from_separate,
    Joint: _from_joint,
    DomainAdversarial: _from_joint,  # the domain classifier is not needed for inference
    MetaFineTuning: _from_joint,
    LoRA: _from_lora,
    MTLLoRA: _from_mtl_lora,
}
# Why methods have no extractor.
REASONS: dict[type[MultiTaskModule], str] = {
    CAMTL: "its encoder layers are conditioned on the task, which transformers does not support",
    Adapters: "its encoder has adapter layers, which transformers does not support",
    PALs: "its encoder has projected attention layers, which transformers does not support",
    TaskLayers: "some layers of its encoder differ by task, which transformers does not support",
}
# What the logits of a head mean, by the loss that trained it. Other losses have logits that are not
# one per class.
PROBLEM_TYPES: dict[type, ProblemType] = {
    CrossEntropy: "single_label_classification",
    Binary: "multi_label_classification",
    BinaryCrossEntropy: "multi_label_classification",
    SquaredError: "regression",
    TokenCrossEntropy: "token_classification",
}


def _parts(
    method: MultiTaskModule, task: Task, encoder: Encoder, head: nn.Module
) -> ClassifierParts:
    if type(head) not in (LinearHead, ChoiceHead):
        raise UserError(
            f"the head of task {task.name!r} is a {type(head).__name__}, which no class of "
            f"transformers has; {ALTERNATIVE}"
        )
    loss = type(method.loss_functions[task.name])
    if loss not in PROBLEM_TYPES:
        raise UserError(
            f"the head of task {task.name!r} was trained with the loss {loss.__name__}, whose "
            f"logits are not one per class; {ALTERNATIVE}"
        )
    layers = [
        LinearWeights(
            layer.weight.detach(),
            layer.weight.new_zeros(layer.out_features)
            if layer.bias is None
            else layer.bias.detach(),
        )
        for layer in head.children()
        if isinstance(layer, nn.Linear)
    ]
    last = layers[-1]
    layers[-1] = last._replace(bias=method.thresholds.shifted(task.name, last.bias))
    return ClassifierParts(
        config=encoder.backbone.config,
        weights=encoder.backbone.state_dict(),
        pooling=encoder.pooling,
        head=layers,
        problem_type="multiple_choice" if type(head) is ChoiceHead else PROBLEM_TYPES[loss],
        labels=list(task.kind.output_names),
    )
