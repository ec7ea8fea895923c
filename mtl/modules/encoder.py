"""A pretrained encoder and its pooling: one vector per example."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtl.batch import Batch, length_groups
from mtl.modules.backbone import BackboneModule, checkpoint_layers, load_encoder
from mtl.modules.backbone_checks import Pooling, choose_pooling
from mtl.modules.families import classifier_has_bias
from mtl.modules.packing import is_packed, packed_output
from mtl.modules.task_context import checkpoint_context, task_context

# Token tensors that backbones may read; other tensors of a batch (a mask's position) are for heads.
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Encoder(BackboneModule):
    """A pretrained backbone and a way to pool its last hidden states.

    Args:
        backbone: Name on the hub, or a directory, or `NAME@REVISION`.
        pooling: `cls`: the first token's state. `mean`: the mean over the tokens that are not
            padding. `pooler`: the backbone's own pretrained layer (BERT's dense layer and tanh on
            the first token). `last`: the state of the last token that is not padding. Default:
            `last` for causal models, whose first token sees no other; else `cls`.
        pretrained: Whether to load the backbone's weights.
        checkpointing: Whether to use gradient checkpointing: activations are recomputed in the
            backward pass.
    """

    def __init__(
        self,
        backbone: str,
        pooling: Pooling | None = None,
        pretrained: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.backbone, self.new_parameters = load_encoder(
            backbone, pretrained=pretrained, pooler=pooling == "pooler"
        )
        if checkpointing:
            checkpoint_layers(self.backbone, checkpoint_context)
        config = self.backbone.config
        if hasattr(config, "use_cache"):
            config.use_cache = False  # keys and values are for the generation of text
        self.pooling = choose_pooling(backbone, pooling, config)
        self.width = int(config.hidden_size)
        has_token_types = getattr(config, "type_vocab_size", 0) > 0
        self._inputs = [name for name in INPUTS if name != "token_type_ids" or has_token_types]

    @property
    def classifier_has_bias(self) -> bool:
        """Whether transformers' classifier of this family has a bias."""
        return classifier_has_bias(self.backbone.config.model_type)

    @property
    def layer_count(self) -> int:
        """Number of the backbone's layers."""
        return int(self.backbone.config.num_hidden_layers)

    def forward(self, batch: Batch) -> Tensor:
        """One vector per example, shape (B, H).

        Args:
            batch: The batch, whose token tensors are read, each (B, L).
        """
        return torch.cat([self.pooled(batch, *group) for group in length_groups(batch)])

    def pooled(self, batch: Batch, examples: slice, length: int) -> Tensor:
        """One vector for each example of a slice, (examples, H), from the first `length` tokens."""
        mask = batch.tokens["attention_mask"][examples, :length]
        return self._pool_output(self._output(batch, examples, length), mask)

    def pooled_with_layer_means(self, batch: Batch, layers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """One vector per example, and the mean states in some layers.

        Args:
            batch: The batch.
            layers: The layers, counted from 0.

        Returns:
            The vectors, shape (B, H), and the mean states, shape (B, len(layers), H).
        """
        vectors, means = [], []
        for examples, length in length_groups(batch):
            mask = batch.tokens["attention_mask"][examples, :length]
            output = self._output(batch, examples, length, output_hidden_states=True)
            vectors.append(self._pool_output(output, mask))
            means.append(
                torch.stack([_mean(output.hidden_states[layer + 1], mask) for layer in layers], 1)
            )
        return torch.cat(vectors), torch.cat(means)

    def states(self, batch: Batch, examples: slice, length: int) -> Tensor:
        """Last hidden states of a slice of the examples, (examples, length, H)."""
        return self._output(batch, examples, length).last_hidden_state

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pools hidden states.

        Args:
            states: Last hidden states, shape (examples, length, H).
            mask: 1 for tokens, 0 for padding, shape (examples, length).

        Returns:
            One vector per example, shape (examples, H).
        """
        if self.pooling == "pooler":
            return self.backbone.get_submodule("pooler")(states)
        if self.pooling == "cls":
            return states[:, 0]
        if self.pooling == "last":
            positions = torch.arange(mask.shape[1], device=mask.device)
            last = (positions * mask).argmax(1)  # padding may be on either side
            return states[torch.arange(len(states), device=states.device), last]
        return _mean(states, mask)

    def _pool_output(self, output: Any, mask: Tensor) -> Tensor:
        if self.pooling == "pooler":
            return output.pooler_output
        return self.pool(output.last_hidden_state, mask)

    def _output(self, batch: Batch, examples: slice, length: int, **options: Any) -> Any:
        inputs = {
            name: batch.tokens[name][examples, :length]
            for name in self._inputs
            if name in batch.tokens
        }
        with task_context(batch.segments, examples):
            if is_packed(self.backbone) and not inputs["attention_mask"].all():
                return packed_output(self.backbone, inputs, **options)
            return self.backbone(**inputs, **options)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)
