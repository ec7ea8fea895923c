"""Where parts go into a pretrained encoder without changing it: by hooks on its modules, whose names and weights stay."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mtl.errors import UserError

# Families whose layers have BERT's parts under BERT's names.
BERT_LAYOUT = ("bert", "camembert", "electra", "roberta", "xlm-roberta")

# The linear layers that make queries and values, which LoRA changes; the last part of their names.
QUERY_AND_VALUE = {
    **dict.fromkeys(BERT_LAYOUT, ("query", "value")),
    "albert": ("query", "value"),
    "mpnet": ("q", "v"),
    "deberta-v2": ("query_proj", "value_proj"),
    "distilbert": ("q_lin", "v_lin"),
    "modernbert": ("Wqkv",),
}


def bert_layers(backbone: Any, method: str) -> list[Any]:
    """The layers of a backbone of BERT's layout.

    Raises:
        UserError: If it has another layout.
    """
    kind = backbone.config.model_type
    if kind not in BERT_LAYOUT:
        raise UserError(
            f"{method} works with backbones of the kinds {', '.join(BERT_LAYOUT)}, not with {kind}"
        )
    return list(backbone.encoder.layer)


def after(module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Lets `change` have the last word on what a module gives."""
    module.register_forward_hook(lambda _, args, output: change(output))


class LayerInput:
    """What a layer was called with, for the parts inside that read it.

    Attributes:
        states: Hidden states (rows, length, H).
        mask: What the layer's attention adds or hides, broadcast over (rows, heads, length, length); None for nothing.
    """

    def __init__(self, layer: Any) -> None:
        self.states: Tensor
        self.mask: Tensor | None = None
        # Of its attention, which has the same input: a checkpointed layer that is computed anew calls no hook of its own.
        layer.attention.register_forward_pre_hook(self._hear, with_kwargs=True)

    def _hear(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.states = args[0] if args else kwargs["hidden_states"]
        self.mask = args[1] if len(args) > 1 else kwargs.get("attention_mask")
