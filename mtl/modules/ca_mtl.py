"""CA-MTL's encoder: a pretrained backbone of BERT's layout whose layers are conditioned on each row's task."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mtl.batch import Batch, length_groups
from mtl.errors import UserError
from mtl.modules.backbone import load_config, load_encoder
from mtl.modules.conditional import (
    ConditionalAttentionBias,
    ConditionalBottleneck,
    ConditionalLayerNorm,
    FiLM,
    TaskEmbedding,
)
from mtl.modules.encoder import INPUTS
from mtl.modules.heads import linear
from mtl.modules.families import BERT_LAYOUT
from mtl.modules.task_context import checkpoint_context, one_example_per_task, task_context


class Conditions(NamedTuple):
    """What depends on the task alone, computed once a step for all tasks.

    Attributes:
        alignment: Scale and shift of the embeddings, each (T, H); None where switched off.
        biases: For each layer its attention bias as matrices (T, L, r); None where switched off.
        norms: For each layer the weights of its two normalisations, each (T, H); None where they are not conditional.
        top: The weight of the normalisation after the base variant's bottleneck, (T, H); None in the large variant.
        bottlenecks: Scale and shift for each bottleneck, each (T, H).
    """

    alignment: tuple[Tensor, Tensor] | None
    biases: list[Tensor | None]
    norms: list[tuple[Tensor, Tensor] | None]
    top: Tensor | None
    bottlenecks: list[tuple[Tensor, Tensor]]


class ConditionalEncoder(nn.Module):
    """A shared encoder that a task's embedding steers: CA-MTL, base and large.

    Every layer adds a task's bias to its attention scores; the layers of the upper half normalise conditionally. Base: a
    conditional bottleneck in the top layer. Large: a ladder of bottlenecks beside the layers, whose last one is the output.

    Source: Pilault et al. 2021, section 2, as released, with the backbone's halves by proportion to its depth.

    Args:
        backbone: Name on the hub, or a directory, or `NAME@REVISION`.
        tasks: Names of the tasks.
        variant: `base` or `large`.
        length: Longest row in tokens.
        attention_bias: Whether tasks bias the attention.
        alignment: Whether tasks modulate the embeddings.
        layer_norm: Whether the upper half's normalisations are conditional.
        bottleneck: Whether there are bottlenecks.
        top_layer: `pretrained`, or from `scratch` as the released base variant has it, whose names match none of BERT's.
        freeze: Layers whose pretrained weights stay as they are, first and last, with the embeddings; none where absent.
            What is conditional in them is trained.
        checkpointing: Whether layers are computed anew in the backward pass instead of keeping their activations.

    Raises:
        UserError: If the backbone has another layout, or not these layers.
    """

    def __init__(
        self,
        backbone: str,
        tasks: Sequence[str],
        variant: Literal["base", "large"] = "base",
        length: int = 128,
        attention_bias: bool = True,
        alignment: bool = True,
        layer_norm: bool = True,
        bottleneck: bool = True,
        top_layer: Literal["pretrained", "scratch"] = "pretrained",
        freeze: tuple[int, int] | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        kind = load_config(backbone).model_type
        if kind not in BERT_LAYOUT:
            raise UserError(
                f"--backbone {backbone}: CA-MTL works with {', '.join(BERT_LAYOUT)}, not with {kind}"
            )
        self.backbone = cast(Any, load_encoder(backbone, pooler=kind != "electra"))
        self.width = width = int(self.backbone.config.hidden_size)
        self.length, self.checkpointing = length, checkpointing
        layers = self.backbone.encoder.layer
        if top_layer == "scratch":
            _start_anew(layers[-1])
        self.pooler = (
            linear(width, width) if kind == "electra" else None
        )  # electra has none of its own

        depth = len(layers)
        self.tasks = list(tasks)
        self.task_embedding = TaskEmbedding(len(tasks), width)
        inside = attention_bias or layer_norm or bottleneck
        self.transformation = linear(width, width) if inside else None
        self.alignment = FiLM(width, width) if alignment else None
        self.biases = nn.ModuleList(
            ConditionalAttentionBias(width, length) for _ in layers if attention_bias
        )
        for layer in list(layers)[depth // 2 :] if layer_norm else []:
            for part in (layer.attention.output, layer.output):
                part.LayerNorm = ConditionalLayerNorm(part.LayerNorm)
        self.variant = variant
        count = {"base": 1, "large": depth}[variant] if bottleneck else 0
        self.bottlenecks = nn.ModuleList(ConditionalBottleneck(width) for _ in range(count))
        eps = self.backbone.config.layer_norm_eps
        self.top_norm: ConditionalLayerNorm | None = None
        if bottleneck and variant == "base":
            self.top_norm = ConditionalLayerNorm(nn.LayerNorm(width, eps=eps))
        if freeze:
            self._freeze(*freeze)

    def forward(self, batch: Batch) -> Tensor:
        """One vector for each row: the pooled state of its first token, shape (B, H)."""
        conditions = self.conditions()
        return torch.cat([self._passed(batch, *part, conditions) for part in length_groups(batch)])

    def states(
        self, tokens: dict[str, Tensor], task_ids: Tensor, conditions: Conditions | None = None
    ) -> Tensor:
        """The last hidden states, (rows, length, H).

        Args:
            tokens: What the backbone reads, each (rows, length).
            task_ids: Each row's task, (rows,).
            conditions: What depends on the task alone; computed where absent.

        Raises:
            UserError: If rows are longer than the attention bias.
        """
        mask = tokens["attention_mask"]
        if mask.shape[1] > self.length:
            raise UserError(
                f"a row has {mask.shape[1]} tokens, and CA-MTL was made for {self.length}; "
                "give --data.max_length and --model.max_length the same number"
            )
        given = conditions or self.conditions()
        states: Tensor = self.backbone.embeddings(
            **{name: tokens[name] for name in ("input_ids", "token_type_ids") if name in tokens}
        )
        if hasattr(self.backbone, "embeddings_project"):  # electra's embeddings may be narrower
            states = self.backbone.embeddings_project(states)
        if given.alignment:
            scale, shift = (factor[task_ids].unsqueeze(1) for factor in given.alignment)
            states = torch.addcmul(shift, states, scale)
        hidden = (
            torch.zeros_like(mask, dtype=torch.float)
            .masked_fill(mask == 0, -torch.inf)
            .unsqueeze(1)
        )
        beside = torch.zeros_like(states)
        for number, layer in enumerate(self.backbone.encoder.layer):
            states = self._run(self._layer, layer, number, states, hidden, task_ids, given)
            if self.variant == "large" and self.bottlenecks:
                scale, shift = (factor[task_ids] for factor in given.bottlenecks[number])
                beside = self._run(self.bottlenecks[number], states + beside, scale, shift)
        return beside if self.variant == "large" and self.bottlenecks else states

    def conditions(self) -> Conditions:
        """What depends on the task alone, for all tasks."""
        with one_example_per_task(self.tasks):
            return self._conditions()

    def _conditions(self) -> Conditions:
        own = self.task_embedding.weight  # z, (T, H)
        inner = self.transformation(own) if self.transformation else own  # z'
        norms: list[tuple[Tensor, Tensor] | None] = []
        for layer in self.backbone.encoder.layer:
            pair = layer.attention.output.LayerNorm, layer.output.LayerNorm
            conditional = isinstance(pair[0], ConditionalLayerNorm)
            norms.append((pair[0].weights(inner), pair[1].weights(inner)) if conditional else None)
        return Conditions(
            alignment=self.alignment(own) if self.alignment else None,
            biases=[bias(inner) for bias in self.biases] or [None] * len(norms),
            norms=norms,
            top=self.top_norm.weights(inner) if self.top_norm is not None else None,
            bottlenecks=[bottleneck.factors(inner) for bottleneck in self.bottlenecks],  # type: ignore[operator]
        )

    def _layer(
        self,
        layer: Any,
        number: int,
        states: Tensor,
        hidden: Tensor,
        task_ids: Tensor,
        given: Conditions,
    ) -> Tensor:
        """One layer of the backbone, conditioned."""
        matrices, norms = given.biases[number], given.norms[number]
        mask = hidden
        if matrices is not None:
            mask = hidden + self.biases[number].spread(matrices, states.shape[1])[task_ids]  # type: ignore[operator]
        attended = self._attended(layer.attention.self, states, mask.unsqueeze(1))
        attended = layer.attention.output.dropout(layer.attention.output.dense(attended)) + states
        inner, outer = (weight[task_ids] for weight in norms) if norms else (None, None)
        attended = _normalised(layer.attention.output.LayerNorm, attended, inner)
        fed = layer.output.dropout(layer.output.dense(layer.intermediate(attended))) + attended
        fed = _normalised(layer.output.LayerNorm, fed, outer)
        if given.top is None or number < len(self.backbone.encoder.layer) - 1:
            return fed
        # The base variant's skip goes around the feed-forward part, which is itself normalised already, as released.
        scale, shift = (factor[task_ids] for factor in given.bottlenecks[0])
        return self.top_norm(self.bottlenecks[0](fed, scale, shift) + attended, given.top[task_ids])  # type: ignore[misc]

    def _attended(self, attention: Any, states: Tensor, mask: Tensor) -> Tensor:
        heads = self.backbone.config.num_attention_heads
        query, key, value = (
            part(states).unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in (attention.query, attention.key, attention.value)
        )
        dropout = attention.dropout.p if attention.training else 0.0
        found = F.scaled_dot_product_attention(query, key, value, mask.to(query.dtype), dropout)
        return found.transpose(1, 2).flatten(2)

    def _run(self, part: Any, *inputs: Any) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False, context_fn=checkpoint_context)
        return part(*inputs)

    def _passed(self, batch: Batch, rows: slice, length: int, conditions: Conditions) -> Tensor:
        tokens = {
            name: batch.tokens[name][rows, :length] for name in INPUTS if name in batch.tokens
        }
        with task_context(batch.segments, rows):
            return self._pooled(self.states(tokens, batch.task_ids[rows], conditions))

    def _pooled(self, states: Tensor) -> Tensor:
        if self.pooler is not None:
            return torch.tanh(self.pooler(states[:, 0]))
        return self.backbone.pooler(states)

    def _freeze(self, first: int, last: int) -> None:
        layers = self.backbone.encoder.layer
        if not 0 <= first <= last < len(layers):
            raise UserError(
                f"freeze_layers {first}-{last}: the backbone's layers are 0-{len(layers) - 1}"
            )
        embeddings = [
            part for name, part in self.backbone.named_children() if name.startswith("embeddings")
        ]
        for part in [*embeddings, *list(layers)[first : last + 1]]:
            for name, parameter in part.named_parameters():
                parameter.requires_grad_("film" in name.split("."))


def _start_anew(layer: nn.Module) -> None:
    for part in layer.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            part.reset_parameters()


def _normalised(norm: nn.Module, states: Tensor, weights: Tensor | None) -> Tensor:
    return norm(states) if weights is None else norm(states, weights)
