"""Parameter groups of the optimizer: their learning rates, weight decays and first steps."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from torch import nn
from transformers import PreTrainedModel

from mtl.bounds import NonNegative, NonNegativeInt, check_bounds
from mtl.errors import UserError
from mtl.modules.families import in_embeddings, layer_index


@dataclass(frozen=True)
class GroupOptions:
    """Options of the parameters whose names match a pattern.

    Args:
        lr: Peak learning rate; default: that of the method, with its layer-wise decay.
        weight_decay: Weight decay of matrices; default: that of the method.
        frozen_steps: Number of optimizer steps before the first update. Until then the learning
            rate is 0, but gradients are computed.

    Raises:
        UserError: If a number is out of bounds.
    """

    lr: NonNegative | None = None
    weight_decay: NonNegative | None = None
    frozen_steps: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_bounds(type(self), vars(self), "groups: ")

    @classmethod
    def of(cls, value: "GroupOptions | Mapping[str, Any]") -> "GroupOptions":
        """Options from a mapping of the fields, as a checkpoint holds it."""
        return value if isinstance(value, cls) else cls(**cast("Mapping[str, Any]", value))


class _Group(NamedTuple):
    """What the parameters of a group have in common."""

    lr: float
    weight_decay: float
    frozen_steps: int


def parameter_groups(
    module: nn.Module,
    lr: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    groups: Mapping[str, GroupOptions] | None = None,
) -> list[dict[str, Any]]:
    """Trainable parameters in groups: matrices first, then vectors, which have no weight decay.

    Args:
        module: The module to train.
        lr: Peak learning rate.
        weight_decay: Weight decay of matrices.
        layer_decay: Factor of the learning rate of pretrained parameters per layer, from the last
            layer to the embeddings.
        groups: Options by pattern. The first pattern that is found in a parameter's name applies.

    Raises:
        UserError: If a pattern matches no trainable parameter, or no parameter is in a layer.
    """
    trainable = {name: value for name, value in module.named_parameters() if value.requires_grad}
    factors = _layer_factors(module, trainable, layer_decay)
    patterns = {re.compile(pattern): options for pattern, options in (groups or {}).items()}
    unused = {pattern.pattern for pattern in patterns}
    found: dict[tuple[bool, _Group], list[nn.Parameter]] = {}
    for name, parameter in trainable.items():
        matching = [pattern for pattern in patterns if pattern.search(name)]
        unused -= {pattern.pattern for pattern in matching}
        options = patterns[matching[0]] if matching else GroupOptions()
        decay = weight_decay if options.weight_decay is None else options.weight_decay
        is_matrix = parameter.ndim > 1
        group = _Group(
            lr * factors[name] if options.lr is None else options.lr,
            decay if is_matrix else 0.0,
            options.frozen_steps,
        )
        found.setdefault((is_matrix, group), []).append(parameter)
    if unused:
        raise UserError(
            f"--model.groups: {min(unused)!r} is in no name of a trainable parameter, such "
            f"as {', '.join(list(trainable)[:: max(1, len(trainable) // 3)][:4])}"
        )
    by_kind = sorted(found.items(), key=lambda item: not item[0][0])
    return [{"params": params} | group._asdict() for (_, group), params in by_kind]


def _layer_factors(
    module: nn.Module, trainable: Mapping[str, nn.Parameter], decay: float
) -> dict[str, float]:
    """Factor of each parameter's learning rate.

    For the parameters of pretrained models it is decay ** (L - i) in layer i of L, and
    decay ** (L + 1) in the embeddings. It is 1 for all others.

    Source: Clark et al. 2020 (ELECTRA), appendix B; Bao et al. 2022 (BEiT) for the exponents.
    """
    factors = dict.fromkeys(trainable, 1.0)
    if decay == 1:
        return factors
    models = [each for each in module.modules() if isinstance(each, PreTrainedModel)]
    pretrained = {id(parameter) for model in models for parameter in model.parameters()}
    names = [name for name, parameter in trainable.items() if id(parameter) in pretrained]
    indices = {name: index for name in names if (index := layer_index(name)) is not None}
    if not indices:
        raise UserError(
            "--model.layer_decay: no trainable parameter is in a layer of the encoder; remove it"
        )
    layers = max(indices.values()) + 1
    factors |= {name: decay ** (layers + 1) for name in names if in_embeddings(name)}
    return factors | {name: decay ** (layers - index) for name, index in indices.items()}
