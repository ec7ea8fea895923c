"""An encoder conditioned on a task embedding."""

import re
from collections.abc import Collection
from typing import Any, ClassVar, Literal, get_args

from torch import Tensor

from mtl.batch import Batch
from mtl.bounds import Count, ShareBelowOne
from mtl.errors import UserError
from mtl.methods.attention import Attention
from mtl.methods.base import MultiTaskModule
from mtl.modules.ca_mtl import ConditionalEncoder, ConditionalOptions
from mtl.modules.heads import task_head
from mtl.modules.per_task import PerTask
from mtl.modules.task_context import task_context
from mtl.tasks import (
    Classification,
    MultiLabel,
    MultipleChoice,
    Regression,
    TaskKind,
    TokenLabels,
    WordTags,
)


class CAMTL(MultiTaskModule):
    """CA-MTL: one encoder whose attention, normalization and bottlenecks depend on the task.

    Source: Pilault et al. 2021, section 2; where the authors' release differs, the release.
    Reads: token ids.  Batches: any scheme; published with uncertainty sampling.
    Per task: an embedding and a linear head; all else is shared.
    Relations: with all four conditional modules off it is `MultiHead` with `pooling: pooler`.

    Args:
        variant: `base`: a conditional bottleneck in the top layer. `large`: a chain of bottlenecks
            in parallel with the layers, the last of which is the output.
        max_length: Maximum sequence length in tokens, which is the size of the attention bias;
            `--data.max_length` must not exceed it.
        attention_bias: Whether tasks bias the attention scores.
        alignment: Whether tasks modulate the embeddings.
        layer_norm: Whether the normalization of the upper half of the layers is conditional.
        bottleneck: Whether there are conditional bottlenecks.
        top_layer: Whether the top layer is `pretrained`, or initialized from `scratch` as in the
            released base variant.
        freeze_layers: Layers whose pretrained weights are frozen, such as `0-4` (the README of the
            release, base) or `0-11` (large), together with the embeddings. Their conditional
            modules are trained.
        gradient_checkpointing: Whether activations are recomputed in the backward pass: less
            memory, a third more time.
        dropout: Dropout probability of the heads.

    Raises:
        UserError: If the backbone does not have BERT's layers, or not those in `freeze_layers`.
    """

    supported_kinds: ClassVar[tuple[type[TaskKind], ...]] = (
        Classification,
        Regression,
        MultiLabel,
        TokenLabels,
        WordTags,
        MultipleChoice,
    )
    unsupported_attention: ClassVar[Collection[Attention]] = get_args(Attention)
    attention_reason: ClassVar[str] = (
        "CAMTL computes attention itself, with a bias for each task; omit the option"
    )

    def __init__(
        self,
        variant: Literal["base", "large"] = "base",
        max_length: Count = 128,
        attention_bias: bool = True,
        alignment: bool = True,
        layer_norm: bool = True,
        bottleneck: bool = True,
        top_layer: Literal["pretrained", "scratch"] = "pretrained",
        freeze_layers: str | None = None,
        gradient_checkpointing: bool = False,
        dropout: ShareBelowOne = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        options = ConditionalOptions(
            variant,
            max_length,
            attention_bias,
            alignment,
            layer_norm,
            bottleneck,
            top_layer,
            freeze=_layer_range(freeze_layers),
            checkpointing=gradient_checkpointing,
        )
        names = [task.name for task in self.tasks]
        self.encoder = ConditionalEncoder(self.backbone_name, names, options)
        width = self.encoder.width
        self.word_tasks = {task.name for task in self.tasks if isinstance(task.kind, TokenLabels)}
        self.heads = PerTask(
            self.tasks,
            lambda task: task_head(task, width, self.loss_functions[task.name].size, dropout),
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One forward pass of all examples, conditioned on their tasks, then each task's head."""
        if not self.word_tasks & {segment.task for segment in batch.segments}:
            return self.heads(self.encoder(batch), batch.segments)
        logits: dict[str, Tensor] = {}
        for segment, states in self.encoder.segment_states(batch):
            task = segment.task
            with task_context(batch.segments, segment.examples):
                read = states if task in self.word_tasks else self.encoder.pool(states)
                logits.setdefault(task, self.heads[task](read))
        return logits

    @property
    def reads_token_states(self) -> bool:
        """Whether a head reads the states of the tokens."""
        return bool(self.word_tasks)


def _layer_range(layers: str | None) -> tuple[int, int] | None:
    if layers is None:
        return None
    match = re.fullmatch(r"(\d+)-(\d+)", layers)
    if not match:
        raise UserError(
            f"freeze_layers {layers!r}: write the first and the last layer, counted from 0, such "
            "as '0-4'"
        )
    return int(match[1]), int(match[2])
