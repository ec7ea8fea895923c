"""A pretrained encoder, and one vector for each row."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mtl.batch import Batch, length_groups
from mtl.modules.backbone import checkpoint_layers, load_encoder
from mtl.modules.task_context import checkpoint_context, task_context

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
        checkpointing: Whether layers are computed anew in the backward pass instead of keeping their activations.
    """

    def __init__(
        self,
        backbone: str,
        pooling: Pooling = "cls",
        pretrained: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = load_encoder(backbone, pretrained=pretrained, pooler=pooling == "pooler")
        if checkpointing:
            checkpoint_layers(self.backbone, checkpoint_context)
        self.pooling = pooling
        self.width = int(self.backbone.config.hidden_size)
        self._inputs = [name for name in INPUTS if name != "token_type_ids" or self._has_segments()]

    def forward(self, batch: Batch) -> Tensor:
        """One vector for each row, shape (B, H).

        Args:
            batch: The batch, of which the token tensors are read, each (B, L).
        """
        return torch.cat([self.pooled(batch, *part) for part in length_groups(batch)])

    def pooled(self, batch: Batch, rows: slice, length: int) -> Tensor:
        """One vector for each of some rows, (rows, H), from their first `length` tokens."""
        output = self._output(batch, rows, length)
        if self.pooling == "pooler":
            return output.pooler_output
        return self.pool(output.last_hidden_state, batch.tokens["attention_mask"][rows, :length])

    def with_layers(self, batch: Batch, layers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """One vector for each row, (B, H), and the mean of its tokens' states after some layers, (B, len(layers), H).

        Args:
            batch: The batch.
            layers: The layers, counted from 0.
        """
        vectors, means = [], []
        for rows, length in length_groups(batch):
            mask = batch.tokens["attention_mask"][rows, :length]
            output = self._output(batch, rows, length, output_hidden_states=True)
            pooled = self.pooling == "pooler"
            vectors.append(
                output.pooler_output if pooled else self.pool(output.last_hidden_state, mask)
            )
            means.append(
                torch.stack([_mean(output.hidden_states[layer + 1], mask) for layer in layers], 1)
            )
        return torch.cat(vectors), torch.cat(means)

    def states(self, batch: Batch, rows: slice, length: int) -> Tensor:
        """The last hidden states of some rows, (rows, length, H), from their first `length` tokens."""
        return self._output(batch, rows, length).last_hidden_state

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """One vector of each row's states: (rows, length, H), of which (rows, length) are no padding, to (rows, H)."""
        if self.pooling == "pooler":
            return self.backbone.pooler(states)  # type: ignore[operator]
        if self.pooling == "cls":
            return states[:, 0]
        return _mean(states, mask)

    def _output(self, batch: Batch, rows: slice, length: int, **options: Any) -> Any:
        inputs = {
            name: batch.tokens[name][rows, :length] for name in self._inputs if name in batch.tokens
        }
        with task_context(batch.segments, rows):
            return self.backbone(**inputs, **options)

    def _has_segments(self) -> bool:
        return getattr(self.backbone.config, "type_vocab_size", 0) > 0


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)
