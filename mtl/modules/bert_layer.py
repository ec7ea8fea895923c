"""The computation of one layer with BERT's layout, for encoders that condition its parts."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


def bert_layer(
    layer: Any, states: Tensor, mask: Tensor, heads: int, norm_weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Computes a layer of a pretrained encoder.

    Args:
        layer: The layer, with BERT's layout.
        states: Hidden states, shape (examples, length, H).
        mask: Values to add to the attention scores, shape (examples, 1, length, length) or one that
            broadcasts to it.
        heads: Number of attention heads.
        norm_weights: Weights of the two normalizations per example, each (examples, H), if they are
            conditional; empty if not.

    Returns:
        Hidden states after the attention block and after the feed-forward block, both normalized.
    """
    attended = _attention(layer.attention.self, states, mask, heads)
    attended = layer.attention.output.dropout(layer.attention.output.dense(attended)) + states
    attended = layer.attention.output.LayerNorm(attended, *norm_weights[:1])
    fed = layer.output.dropout(layer.output.dense(layer.intermediate(attended))) + attended
    return attended, layer.output.LayerNorm(fed, *norm_weights[1:])


def reinitialize(layer: nn.Module) -> None:
    """Initializes the weights of a layer as BERT does before pretraining: N(0, 0.02)."""
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            module.reset_parameters()


def _attention(attention: Any, states: Tensor, mask: Tensor, heads: int) -> Tensor:
    query, key, value = (
        projection(states).unflatten(-1, (heads, -1)).transpose(1, 2)
        for projection in (attention.query, attention.key, attention.value)
    )
    dropout = attention.dropout.p if attention.training else 0.0
    mask = mask.to(query.dtype)
    attended = F.scaled_dot_product_attention(query, key, value, mask, dropout)
    return attended.transpose(1, 2).flatten(2)
