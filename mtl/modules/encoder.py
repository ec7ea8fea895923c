"""A pretrained encoder, and one vector for each row."""

from typing import Literal

import torch
from torch import Tensor, nn

from mtl.backbone import load_encoder
from mtl.batch import Batch, rectangles

Pooling = Literal["cls", "mean", "pooler"]

# What backbones may read; other fields of a batch (a mask's position) are for heads.
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Encoder(nn.Module):
    """A pretrained backbone and a way to pool its last hidden states.

    Args:
        backbone: Name on the hub, or a directory, or `NAME@REVISION`.
        pooling: `cls`: the first token's state. `mean`: the mean over the tokens that are not padding. `pooler`: the
            backbone's own pretrained layer (BERT's dense and tanh on the first token).
        pretrained: Whether to load the backbone's weights.
    """

    def __init__(self, backbone: str, pooling: Pooling = "cls", pretrained: bool = True) -> None:
        super().__init__()
        self.backbone = load_encoder(backbone, pretrained=pretrained, pooler=pooling == "pooler")
        self.pooling = pooling
        self.width = int(self.backbone.config.hidden_size)
        self._inputs = [name for name in INPUTS if name != "token_type_ids" or self._has_segments()]

    def forward(self, batch: Batch) -> Tensor:
        """One vector for each row, shape (B, H).

        Args:
            batch: The batch, of which the token tensors are read, each (B, L).
        """
        return torch.cat([self._pooled(self._part(batch, rows, length)) for rows, length in rectangles(batch)])

    def _part(self, batch: Batch, rows: slice, length: int) -> dict[str, Tensor]:
        return {name: batch.tokens[name][rows, :length] for name in self._inputs if name in batch.tokens}

    def _pooled(self, tokens: dict[str, Tensor]) -> Tensor:
        output = self.backbone(**tokens)
        if self.pooling == "pooler":
            return output.pooler_output  # type: ignore[no-any-return]
        states: Tensor = output.last_hidden_state  # (rows, length, H)
        if self.pooling == "cls":
            return states[:, 0]
        mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)  # (rows, length, 1)
        return (states * mask).sum(1) / mask.sum(1)

    def _has_segments(self) -> bool:
        return getattr(self.backbone.config, "type_vocab_size", 0) > 0
