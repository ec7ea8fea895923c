"""CA-MTL's encoder: a pretrained backbone of BERT's layout, conditioned on each example's task."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mtl.batch import Batch, Segment, length_groups
from mtl.errors import UserError
from mtl.modules.backbone import BackboneModule, load_config, load_encoder
from mtl.modules.bert_layer import bert_layer, reinitialize
from mtl.modules.conditional import (
    ConditionalAttentionBias,
    ConditionalBottleneck,
    ConditionalLayerNorm,
    Conditions,
    FiLM,
    TaskEmbedding,
    freeze_pretrained,
)
from mtl.modules.encoder import INPUTS
from mtl.modules.families import embeddings, family, has_pooler, in_embeddings, layers
from mtl.modules.initialization import linear
from mtl.modules.task_context import checkpoint_context, one_example_per_task, task_context


@dataclass(frozen=True)
class ConditionalOptions:
    """Options of a `ConditionalEncoder`.

    Attributes:
        variant: `base` or `large`.
        length: Maximum length of an example in tokens.
        attention_bias: Whether tasks bias the attention scores.
        alignment: Whether tasks modulate the embeddings.
        layer_norm: Whether the normalizations of the upper half of the layers are conditional.
        bottleneck: Whether there are conditional bottlenecks.
        top_layer: Whether the top layer is `pretrained` or starts from `scratch`. The released base
            variant starts from scratch, because the names of its weights match none of BERT's.
        freeze: First and last layer whose pretrained weights are frozen, together with the
            embeddings; default: none. Conditional parameters in these layers are trained.
        checkpointing: Whether to recompute layers in the backward pass instead of storing their
            activations.
    """

    variant: Literal["base", "large"] = "base"
    length: int = 128
    attention_bias: bool = True
    alignment: bool = True
    layer_norm: bool = True
    bottleneck: bool = True
    top_layer: Literal["pretrained", "scratch"] = "pretrained"
    freeze: tuple[int, int] | None = None
    checkpointing: bool = False

    def bottlenecks(self, depth: int) -> int:
        """Returns the number of bottlenecks of an encoder with `depth` layers."""
        return {"base": 1, "large": depth}[self.variant] if self.bottleneck else 0


class ConditionalEncoder(BackboneModule):
    """A shared encoder that is conditioned on a task embedding: CA-MTL, base and large.

    Every layer adds a task's bias to its attention scores. The normalizations of the upper half of
    the layers are conditional. Base: a conditional bottleneck in the top layer. Large: a ladder of
    bottlenecks in parallel with the layers, the last of which is the output.

    Source: Pilault et al. 2021, section 2, as released; the published layer indices are scaled to
    the backbone's depth.

    Args:
        backbone: Name on the hub, a directory, or `NAME@REVISION`.
        tasks: Names of the tasks.
        options: The options.

    Raises:
        UserError: If the backbone does not have BERT's layout, or lacks the layers to freeze.
    """

    backbone: Any
    biases: Sequence[ConditionalAttentionBias]
    bottlenecks: Sequence[ConditionalBottleneck]

    def __init__(
        self, backbone: str, tasks: Sequence[str], options: ConditionalOptions | None = None
    ) -> None:
        super().__init__()
        self.options = options = options or ConditionalOptions()
        model_type = load_config(backbone).model_type
        family(model_type, "CAMTL")
        pretrained_pooler = has_pooler(model_type)
        self.backbone, self.new_parameters = load_encoder(backbone, pooler=pretrained_pooler)
        self.width = width = int(self.backbone.config.hidden_size)
        if options.top_layer == "scratch":
            reinitialize(self.layers[-1])
        self.pooler = None if pretrained_pooler else linear(width, width)

        self.tasks = list(tasks)
        self.task_embedding = TaskEmbedding(len(tasks), width)
        in_layers = options.attention_bias or options.layer_norm or options.bottleneck
        self.transformation = linear(width, width) if in_layers else None
        self.alignment = FiLM(width, width) if options.alignment else None
        biased = len(self.layers) if options.attention_bias else 0
        biases = (ConditionalAttentionBias(width, options.length) for _ in range(biased))
        self.biases = cast(Any, nn.ModuleList(biases))
        self.first_conditional = len(self.layers) // 2 if options.layer_norm else len(self.layers)
        for layer in self.layers[self.first_conditional :]:
            for block in (layer.attention.output, layer.output):
                block.LayerNorm = ConditionalLayerNorm(block.LayerNorm)
        count = options.bottlenecks(len(self.layers))
        bottlenecks = (ConditionalBottleneck(width) for _ in range(count))
        self.bottlenecks = cast(Any, nn.ModuleList(bottlenecks))
        self.has_ladder = options.variant == "large" and count > 0
        self.top_norm: ConditionalLayerNorm | None = None
        if count and not self.has_ladder:
            eps = self.backbone.config.layer_norm_eps
            self.top_norm = ConditionalLayerNorm(nn.LayerNorm(width, eps=eps))
        if options.freeze:
            children = self.backbone.named_children()
            frozen = [module for name, module in children if in_embeddings(name)]
            freeze_pretrained(self.layers, frozen, *options.freeze)

    @property
    def layers(self) -> list[Any]:
        """The layers of the backbone."""
        return layers(self.backbone, "CAMTL")

    @property
    def embeddings(self) -> Any:
        """The module that computes the input of the first layer."""
        return embeddings(self.backbone, "CAMTL")

    def forward(self, batch: Batch) -> Tensor:
        """Computes one vector per example, the pooled state of its first token, shape (B, H)."""
        conditions = self.conditions()
        vectors = [self._encode(batch, *group, conditions) for group in length_groups(batch)]
        return torch.cat(vectors)

    def states(
        self, tokens: dict[str, Tensor], task_ids: Tensor, conditions: Conditions | None = None
    ) -> Tensor:
        """Computes the last hidden states, shape (examples, length, H).

        Args:
            tokens: Inputs of the backbone, each of shape (examples, length).
            task_ids: Task of each example, shape (examples,).
            conditions: Output of `conditions`; default: computed here.

        Raises:
            UserError: If an example is longer than the attention bias.
        """
        padding_mask = tokens["attention_mask"]
        if padding_mask.shape[1] > self.options.length:
            raise UserError(
                f"an example has {padding_mask.shape[1]} tokens, but this CA-MTL encoder takes at "
                f"most {self.options.length}; set --data.max_length and --model.max_length to the "
                "same number"
            )
        conditions = conditions or self.conditions()
        states = self._embed(tokens, task_ids, conditions)
        mask = torch.zeros_like(padding_mask, dtype=torch.float)
        mask = mask.masked_fill(padding_mask == 0, -torch.inf).unsqueeze(1)
        ladder = torch.zeros_like(states)
        for index in range(len(self.layers)):
            states = self._run(self._layer, index, states, mask, task_ids, conditions)
            if self.has_ladder:
                scale, shift = (factor[task_ids] for factor in conditions.bottlenecks[index])
                ladder = self._run(self.bottlenecks[index], states + ladder, scale, shift)
        return ladder if self.has_ladder else states

    def conditions(self) -> Conditions:
        """Computes the tensors that depend on the task alone, for all tasks."""
        with one_example_per_task(self.tasks):
            embedding = self.task_embedding.weight  # z, (T, H)
            inner = self.transformation(embedding) if self.transformation else embedding  # z'
            norms: list[tuple[Tensor, Tensor] | None] = [None] * self.first_conditional
            for layer in self.layers[self.first_conditional :]:
                first, second = layer.attention.output.LayerNorm, layer.output.LayerNorm
                norms.append((first.weights(inner), second.weights(inner)))
            return Conditions(
                alignment=self.alignment(embedding) if self.alignment else None,
                biases=[bias(inner) for bias in self.biases] or [None] * len(norms),
                norms=norms,
                top=self.top_norm.weights(inner) if self.top_norm is not None else None,
                bottlenecks=[bottleneck.factors(inner) for bottleneck in self.bottlenecks],
            )

    def _embed(self, tokens: dict[str, Tensor], task_ids: Tensor, conditions: Conditions) -> Tensor:
        names = [name for name in ("input_ids", "token_type_ids") if name in tokens]
        states: Tensor = self.embeddings(**{name: tokens[name] for name in names})
        if hasattr(self.backbone, "embeddings_project"):  # ELECTRA's embeddings may be narrower
            states = self.backbone.embeddings_project(states)
        if conditions.alignment is None:
            return states
        scale, shift = (factor[task_ids].unsqueeze(1) for factor in conditions.alignment)
        return torch.addcmul(shift, states, scale)

    def _layer(
        self, index: int, states: Tensor, mask: Tensor, task_ids: Tensor, conditions: Conditions
    ) -> Tensor:
        """Computes one layer of the backbone, conditioned on the tasks."""
        layer = self.layers[index]
        matrices, norms = conditions.biases[index], conditions.norms[index]
        if matrices is not None:
            bias = self.biases[index].block_diagonal(matrices, states.shape[1])
            mask = mask + bias[task_ids]
        weights = [weight[task_ids] for weight in norms] if norms else []
        heads = self.backbone.config.num_attention_heads
        attended, fed = bert_layer(layer, states, mask.unsqueeze(1), heads, weights)
        if self.top_norm is None or conditions.top is None or index < len(conditions.norms) - 1:
            return fed
        # As released, the skip connection goes around the feed-forward block, which is already
        # normalized itself.
        scale, shift = (factor[task_ids] for factor in conditions.bottlenecks[0])
        return self.top_norm(
            self.bottlenecks[0](fed, scale, shift) + attended, conditions.top[task_ids]
        )

    def _run(self, function: Any, *inputs: Any) -> Tensor:
        if self.options.checkpointing and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False, context_fn=checkpoint_context)
        return function(*inputs)

    def _encode(self, batch: Batch, examples: slice, length: int, conditions: Conditions) -> Tensor:
        """Computes one vector for each of a range of the examples, from their first tokens."""
        with task_context(batch.segments, examples):
            return self.pool(self._range_states(batch, examples, length, conditions))

    def pool(self, states: Tensor) -> Tensor:
        """One vector per example, shape (examples, H), from states (examples, length, H)."""
        if self.pooler is not None:
            return torch.tanh(self.pooler(states[:, 0]))
        pooled: Tensor = self.backbone.pooler(states)
        return pooled

    def segment_states(self, batch: Batch) -> Iterator[tuple[Segment, Tensor]]:
        """The states of each task's examples, shape (examples, length, H)."""
        conditions = self.conditions()
        for examples, length in length_groups(batch):
            with task_context(batch.segments, examples):
                states = self._range_states(batch, examples, length, conditions)
            for segment in batch.segments:
                start, stop = segment.examples.start, segment.examples.stop
                if examples.start <= start and stop <= examples.stop:
                    yield segment, states[start - examples.start : stop - examples.start]

    def _range_states(
        self, batch: Batch, examples: slice, length: int, conditions: Conditions
    ) -> Tensor:
        names = [name for name in INPUTS if name in batch.tokens]
        tokens = {name: batch.tokens[name][examples, :length] for name in names}
        return self.states(tokens, batch.task_ids[examples], conditions)
