"""An encoder that each task steers by its embedding."""

import re
from typing import Any, Literal

from torch import Tensor

from mtl.batch import Batch
from mtl.errors import UserError
from mtl.methods.base import MultiTaskModule
from mtl.modules import ConditionalEncoder, ConditionalOptions, LinearHead, PerTask


class CAMTL(MultiTaskModule):
    """CA-MTL: one encoder whose attention, normalisations and bottlenecks depend on the row's task.

    Source: Pilault et al. 2021, section 2, as the authors' release has it where the two differ.
    Reads: token ids.  Batches: any scheme; published with uncertainty sampling.
    Per task: an embedding and a linear head; all else is shared.
    Relations: with all four parts off it is `MultiHead` with `pooling: pooler`.

    Args:
        variant: `base`: a conditional bottleneck in the top layer. `large`: a ladder of bottlenecks beside the layers, whose
            last one is the output.
        max_length: Longest row in tokens, which sizes the attention bias; `--data.max_length` may be smaller, not larger.
        attention_bias: Whether tasks bias the attention scores.
        alignment: Whether tasks modulate the embeddings.
        layer_norm: Whether the normalisations of the upper half of the layers are conditional.
        bottleneck: Whether there are conditional bottlenecks.
        top_layer: Whether the top layer starts `pretrained`, or from `scratch` as the released base variant's does.
        freeze_layers: Layers whose pretrained weights stay as they are, such as `0-4` (the README of the release, base) or
            `0-11` (large), and the embeddings with them. What is conditional in them is trained.
        gradient_checkpointing: Whether layers are computed anew in the backward pass: less memory, a third more time.
        dropout: Share of the pooled vector's entries that a head drops in training.

    Raises:
        UserError: If the backbone's layers are not those of BERT, or `freeze_layers` names others than it has.
    """

    def __init__(
        self,
        variant: Literal["base", "large"] = "base",
        max_length: int = 128,
        attention_bias: bool = True,
        alignment: bool = True,
        layer_norm: bool = True,
        bottleneck: bool = True,
        top_layer: Literal["pretrained", "scratch"] = "pretrained",
        freeze_layers: str | None = None,
        gradient_checkpointing: bool = False,
        dropout: float = 0.1,
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
            freeze=_range(freeze_layers),
            checkpointing=gradient_checkpointing,
        )
        self.encoder = ConditionalEncoder(
            self.backbone, [task.name for task in self.tasks], options
        )
        self.heads = PerTask(
            self.tasks,
            lambda task: LinearHead(self.encoder.width, self.task_loss[task.name].size, dropout),
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One pass of all rows through the encoder, each steered by its task, then each through its task's head."""
        return self.heads(self.encoder(batch), batch.segments)


def _range(layers: str | None) -> tuple[int, int] | None:
    if layers is None:
        return None
    found = re.fullmatch(r"(\d+)-(\d+)", layers)
    if not found:
        raise UserError(
            f"freeze_layers {layers!r}: write the first and the last layer, counted from 0, such as '0-4'"
        )
    return int(found[1]), int(found[2])
