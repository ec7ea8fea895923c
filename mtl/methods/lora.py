"""A frozen encoder whose linear layers receive low-rank updates."""

from functools import partial
from typing import Any

from torch import nn

from mtl.bounds import Count, Positive, ShareBelowOne
from mtl.errors import UserError
from mtl.methods.multi_head import MultiHead
from mtl.modules.adapters import LowRank, shared_or_per_task
from mtl.modules.families import family
from mtl.modules.layer_hooks import ResidualHook


class LoRA(MultiHead):
    """Low-rank updates of chosen linear layers, shared by all tasks or one per task.

    Source: Hu et al. 2022. Formula, initialization and defaults are those of the library peft,
    which mixes the updates of several tasks in one batch in inference only.
    Reads: token ids.  Batches: any scheme; the examples of several tasks share one forward pass.
    Per task: a head, and the updates if `per_task`.
    See also: `MultiHead`, which is the same without updates.

    Args:
        rank: Rank r of the updates.
        alpha: The updates are multiplied by alpha / r.
        lora_dropout: Dropout probability of the entries of a linear layer's input, for its update
            only.
        targets: Last components of the names of the linear layers to update; default: those of
            queries and values.
        per_task: Whether each task has its own updates.
        freeze: Whether to freeze the pretrained weights. Checkpoints do not contain frozen weights.

    Raises:
        UserError: If the backbone has no such linear layers, or its query and value layers are not
            known.
    """

    def __init__(
        self,
        rank: Count = 8,
        alpha: Positive = 8.0,
        lora_dropout: ShareBelowOne = 0.0,
        targets: list[str] | None = None,
        per_task: bool = False,
        freeze: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder.requires_grad_(not freeze)
        tasks = self.tasks if per_task else None
        self.changes = nn.ModuleDict()
        for name, layer in _target_layers(self.encoder.backbone, targets).items():
            make = partial(
                LowRank, layer.in_features, layer.out_features, rank, alpha, lora_dropout
            )
            update, apply = shared_or_per_task(make, tasks)
            self.changes[name.replace(".", "/")] = update
            layer.register_forward_hook(ResidualHook(apply))


def _target_layers(backbone: Any, targets: list[str] | None) -> dict[str, nn.Linear]:
    """Returns the linear layers to update, by name."""
    model_type = backbone.config.model_type
    endings = targets or family(model_type).query_and_value
    if not endings:
        raise UserError(
            f"LoRA: the query and value layers of {model_type} are not known; name the linear "
            "layers to update, such as --model.targets '[query, value]'"
        )
    layers = {n: module for n, module in backbone.named_modules() if isinstance(module, nn.Linear)}
    chosen = {name: layer for name, layer in layers.items() if name.rpartition(".")[2] in endings}
    if not chosen:
        available = sorted({name.rpartition(".")[2] for name in layers})
        raise UserError(
            f"--model.targets: the backbone has no linear layer named {' or '.join(endings)}. "
            f"Choose from: {', '.join(available)}."
        )
    return chosen
