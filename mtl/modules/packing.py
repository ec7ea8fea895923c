"""Attention without padding: the examples of a batch are one row, each attends to itself.

Importing this module adds the attention `packed` to transformers.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from mtl.modules.family_table import OFFSET_POSITIONS

PACKED = "packed"


def is_packed(backbone: Any) -> bool:
    """Whether a backbone computes attention without padding."""
    return bool(backbone.config._attn_implementation == PACKED)


def packed_output(backbone: Any, tokens: dict[str, Tensor], **options: Any) -> Any:
    """The output of a backbone with the attention `packed`, as if it had read padded examples.

    Args:
        backbone: The backbone, of a family that `packs`.
        tokens: Its inputs, each of shape (examples, length); with `attention_mask`.
        options: Its other arguments.

    Returns:
        The output. States of padding are 0.
    """
    mask = tokens["attention_mask"]
    present = mask.bool()
    positions = mask.cumsum(1) - 1
    config = backbone.config
    if config.model_type in OFFSET_POSITIONS:
        positions = positions + config.pad_token_id + 1
    row = {name: each[present][None] for name, each in tokens.items() if name != "attention_mask"}
    output = backbone(
        **row, position_ids=positions[present][None], lengths=mask.sum(1).tolist(), **options
    )

    def padded(states: Tensor) -> Tensor:
        empty = states.new_zeros(*mask.shape, states.shape[-1])
        return empty.index_put((present,), states[0])

    output.last_hidden_state = padded(output.last_hidden_state)
    if output.get("hidden_states"):
        output.hidden_states = tuple(map(padded, output.hidden_states))
    if output.get("pooler_output") is not None:
        output.pooler_output = backbone.get_submodule("pooler")(output.last_hidden_state)
    return output


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    lengths: list[int] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention within each example of a row.

    Args:
        module: The attention layer.
        query: Shape (1, heads, tokens, size), or (examples, heads, length, size) if no example has
            padding.
        key: As `query`; perhaps with fewer heads.
        value: As `key`.
        attention_mask: None.
        lengths: Number of tokens of each example in the row; None if there is no padding.
        options: Other arguments of transformers' attention functions.
    """
    sdpa: Any = ALL_ATTENTION_FUNCTIONS["sdpa"]
    if lengths is None:
        return sdpa(module, query, key, value, None, **options)[0], None
    parts = zip(*(each.split(lengths, 2) for each in (query, key, value)), strict=True)
    return torch.cat([sdpa(module, *part, None, **options)[0] for part in parts], 1), None


AttentionInterface.register(PACKED, _attention)
AttentionMaskInterface.register(PACKED, lambda *args, **options: None)
