"""A frozen encoder whose linear layers receive low-rank updates."""

import re
from functools import partial
from typing import Any

from torch import nn

from mtl.bounds import Count, Positive, ShareBelowOne
from mtl.errors import UserError
from mtl.methods.multi_head import MultiHead
from mtl.modules.adapters import LowRank, shared_or_per_task
from mtl.modules.dora import WeightDecomposed
from mtl.modules.families import family, linear_shape
from mtl.modules.layer_hooks import ProductHook, ResidualHook


class LoRA(MultiHead):
    """Low-rank updates of chosen linear layers, shared by all tasks or one per task.

    Source: Hu et al. 2022; Kalajdzievski 2023 (rsLoRA); Liu et al. 2024 (DoRA). Formula,
    initialization and defaults are those of the library peft, which mixes the updates of several
    tasks in one batch in inference only.
    Reads: token ids.  Batches: any scheme; the examples of several tasks share one forward pass.
    Per task: a head, and the updates if `per_task`.
    See also: `MultiHead`, which is the same without updates.

    Args:
        rank: Rank r of the updates.
        rank_pattern: Ranks of the linear layers whose names end with a match of a regular
            expression, such as `{value: 16, "layer.0.*query": 4}`; the first match applies.
        alpha: The updates are multiplied by alpha / r.
        rslora: Whether they are multiplied by alpha / sqrt(r) instead (rank-stabilized LoRA).
        lora_dropout: Dropout probability of the entries of a linear layer's input, for its update
            only.
        targets: Last components of the names of the linear layers to update, or a regular
            expression for complete names, such as `.*(query|value|dense)`; default: those of
            queries and values.
        per_task: Whether each task has its own updates.
        dora: Whether the length of each row of a weight is trained as well (Liu et al. 2024, DoRA).
        freeze: Whether to freeze the pretrained weights. Checkpoints do not contain frozen weights.

    Raises:
        UserError: If the backbone has no such linear layers, its query and value layers are not
            known, a pattern matches no updated layer, or `dora` is without `freeze`.
    """

    def __init__(
        self,
        rank: Count = 8,
        rank_pattern: dict[str, Count] | None = None,
        alpha: Positive = 8.0,
        rslora: bool = False,
        lora_dropout: ShareBelowOne = 0.0,
        targets: list[str] | str | None = None,
        per_task: bool = False,
        dora: bool = False,
        freeze: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if dora and not freeze:
            raise UserError("--model.dora: needs frozen weights; omit --model.freeze false")
        self.encoder.requires_grad_(not freeze)
        tasks = self.tasks if per_task else None
        self.alpha, self.rslora, self.lora_dropout, self.dora = alpha, rslora, lora_dropout, dora
        self.changes = nn.ModuleDict()
        backbone = self.encoder.backbone
        layers = target_layers(backbone, targets)
        ranks = _ranks(list(layers), rank, rank_pattern or {})
        for name, (inputs, outputs) in layers.items():
            linear = backbone.get_submodule(name)
            sizes = (inputs, outputs, ranks[name], alpha, lora_dropout, rslora)
            make = partial(WeightDecomposed, linear, *sizes) if dora else partial(LowRank, *sizes)
            update, apply = shared_or_per_task(make, tasks)
            self.changes[name.replace(".", "/")] = update
            linear.register_forward_hook(ProductHook(apply) if dora else ResidualHook(apply))


def target_layers(backbone: Any, targets: list[str] | str | None) -> dict[str, tuple[int, int]]:
    """Returns input and output size of the linear layers to update, by name."""
    chosen_by = targets or list(
        family(backbone.config.model_type, "LoRA without targets").query_and_value
    )
    shapes = ((name, linear_shape(module)) for name, module in backbone.named_modules())
    layers = {name: shape for name, shape in shapes if shape}
    if isinstance(chosen_by, str):
        chosen = {name: shape for name, shape in layers.items() if re.fullmatch(chosen_by, name)}
        problem = f"the name of no linear layer matches {chosen_by!r}"
    else:
        last = {name: name.rpartition(".")[2] for name in layers}
        chosen = {name: shape for name, shape in layers.items() if last[name] in chosen_by}
        problem = f"the backbone has no linear layer named {' or '.join(chosen_by)}"
    if not chosen:
        available = sorted({name.rpartition(".")[2] for name in layers})
        raise UserError(f"--model.targets: {problem}. Choose from: {', '.join(available)}.")
    return chosen


def _ranks(names: list[str], rank: int, patterns: dict[str, int]) -> dict[str, int]:
    """The rank of each linear layer's update.

    Raises:
        UserError: If a pattern matches no name.
    """
    matching = {
        pattern: [name for name in names if re.search(rf"(^|\.)({pattern})$", name)]
        for pattern in patterns
    }
    for pattern, matches in matching.items():
        if not matches:
            raise UserError(
                f"--model.rank_pattern: no name of an updated layer ends with {pattern!r}. The "
                f"names: {', '.join(names[:3])}, ..."
            )
    return {
        name: next((patterns[each] for each in patterns if name in matching[each]), rank)
        for name in names
    }
