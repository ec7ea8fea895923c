"""A shared encoder with a head for each task."""

from typing import Any

from torch import Tensor

from mtl.batch import Batch
from mtl.methods.base import MultiTaskModule
from mtl.modules import Encoder, LinearHead, PerTask
from mtl.modules.encoder import Pooling


class MultiHead(MultiTaskModule):
    """One encoder for all tasks, one linear head for each: hard parameter sharing.

    Source: Caruana 1997; with BERT, Liu et al. 2019 (MT-DNN), section 3.
    Reads: token ids.  Batches: any scheme.  Per task: a head; all else is shared.
    Relations: with one task in the list it is ordinary single-task fine-tuning, the baseline of every comparison.

    Args:
        pooling: What a row's vector is: the first token's state, the mean over tokens, or the backbone's own pooler.
        dropout: Share of the vector's entries that a head drops in training.
    """

    def __init__(self, pooling: Pooling = "cls", dropout: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder = Encoder(self.backbone, pooling)
        self.heads = PerTask(self.tasks, lambda task: LinearHead(self.encoder.width, task.outputs, dropout))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One pass of all rows through the encoder, each row through its task's head."""
        return self.heads(self.encoder(batch), batch.segments)  # type: ignore[no-any-return]
