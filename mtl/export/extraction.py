"""What a task's logits come from, of a method in which nothing but the choice of weights depends on the task."""

from functools import singledispatch
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import PretrainedConfig

from mtl.errors import UserError
from mtl.methods import (
    CAMTL,
    Adapters,
    Joint,
    LoRA,
    MultiHead,
    MultiTaskModule,
    PALs,
    PromptBasedFineTuning,
    Separate,
)
from mtl.modules import Encoder, LinearHead, PerTask
from mtl.modules.encoder import Pooling
from mtl.modules.losses import Both, Ordinal
from mtl.tasks import Task

OTHERWISE = "export it with --format mtl, for mtl.load, or add --onnx to that"


class Parts(NamedTuple):
    """An encoder and what stands on it.

    Attributes:
        config: The backbone's configuration.
        weights: The backbone's weights by their names in it.
        pooling: What a row's vector is.
        head: Weight (outputs, inputs) and bias of each linear layer of the head, ReLU between them.
    """

    config: PretrainedConfig
    weights: dict[str, Tensor]
    pooling: Pooling
    head: list[tuple[Tensor, Tensor]]


@singledispatch
def parts(method: MultiTaskModule, task: Task) -> Parts:
    """The parts that a task's logits come from.

    Args:
        method: The method with its weights.
        task: The task.

    Raises:
        UserError: If the method, or the task's head, is of a shape that transformers has no class for.
    """
    raise UserError(
        f"{type(method).__name__} has parts that no class of transformers has; {OTHERWISE}"
    )


for _conditional in (CAMTL, Adapters, PALs):  # the last two build on MultiHead
    parts.register(_conditional, parts.dispatch(object))


@parts.register
def _(method: MultiHead, task: Task) -> Parts:
    return _parts(method, task, method.encoder, method.heads[task.name])


@parts.register
def _(method: Separate, task: Task) -> Parts:
    return _parts(method, task, method.encoders[task.name], method.heads[task.name])


@parts.register
def _(method: Joint, task: Task) -> Parts:
    found = _parts(method, task, method.encoder, method.head)
    (weight, bias), start = found.head[-1], method.starts[task.name]
    own = slice(start, start + task.outputs)
    return found._replace(head=[*found.head[:-1], (weight[own], bias[own])])


@parts.register
def _(method: LoRA, task: Task) -> Parts:
    found = _parts(method, task, method.encoder, method.heads[task.name])
    weights = dict(found.weights)
    for place, change in method.changes.items():
        own: Any = change[task.name] if isinstance(change, PerTask) else change
        name = place.replace("/", ".") + ".weight"
        weights[name] = weights[name] + own.merged().detach()
    return found._replace(weights=weights)


def kind(method: MultiTaskModule) -> str:
    """What a method can become: `classifier`, `masked_lm`, or `mtl` where it is a matter of ours alone."""
    if isinstance(method, PromptBasedFineTuning):
        return "masked_lm"
    return "mtl" if parts.dispatch(type(method)) is parts.dispatch(object) else "classifier"


def _parts(method: MultiTaskModule, task: Task, encoder: Any, head: nn.Module) -> Parts:
    if not isinstance(head, LinearHead):
        raise UserError(
            f"the head of {task.name!r} is a {type(head).__name__}, which no class of transformers has; {OTHERWISE}"
        )
    if isinstance(method.task_loss[task.name], Ordinal | Both):
        name = method.loss_names[task.name]
        raise UserError(
            f"the numbers of {task.name!r} are those of the loss {name!r}, no class's logits; {OTHERWISE}"
        )
    assert isinstance(encoder, Encoder)
    layers = [
        (part.weight.detach(), part.bias.detach()) for part in head if isinstance(part, nn.Linear)
    ]
    backbone = encoder.backbone
    return Parts(backbone.config, backbone.state_dict(), encoder.pooling, layers)
