"""An encoder for each task."""

from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from mtl.balancing import Balancer, Sum
from mtl.batch import Batch
from mtl.methods.base import MultiTaskModule
from mtl.modules import Encoder, LinearHead, PerTask
from mtl.modules.backbone import load_config
from mtl.modules.encoder import Pooling


class Separate(MultiTaskModule):
    """An encoder and a head for each task, trained in one run, nothing shared.

    Source: the separate encoders of CS224N's SST, Quora and STS; the first row of CA-MTL's and PALs' tables ("9x").
    Reads: token ids.  Batches: any scheme.  Per task: everything.
    Relations: single-task runs side by side, under one budget and one selection; memory and checkpoints grow with the tasks.

    Args:
        pooling: What a row's vector is: the first token's state, the mean over tokens, or the backbone's own pooler.
        dropout: Share of the vector's entries that a head drops in training.
    """

    default_balancer: ClassVar[type[Balancer]] = (
        Sum  # a mean would divide each task's only gradient by the others' presence
    )

    def __init__(self, pooling: Pooling = "cls", dropout: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoders = PerTask(self.tasks, lambda task: Encoder(self.backbone, pooling))
        self.width = int(load_config(self.backbone).hidden_size)
        self.heads = PerTask(
            self.tasks, lambda task: LinearHead(self.width, self.task_loss[task.name].size, dropout)
        )

    def on_fit_start(self) -> None:
        """Says what it takes to share nothing."""
        super().on_fit_start()
        count = sum(parameter.numel() for parameter in self.parameters())
        gigabytes = 3 * 4 * count / 1e9  # weights and the two moments of Adam, in fp32
        rank_zero_info(
            f"{len(self.tasks)} encoders, {count:,} parameters; a checkpoint takes about {gigabytes:.1f} GB"
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Each task's rows through its own encoder and head."""
        logits = {}
        for segment in batch.segments:
            if segment.length:
                rows = self.encoders[segment.task].pooled(batch, segment.examples, segment.length)  # type: ignore[operator]
            else:  # a process may hold no row of a task that others hold
                rows = torch.zeros(0, self.width, device=batch.task_ids.device)
            logits[segment.task] = self.heads[segment.task](rows)
        return logits
