"""An encoder that learns to hide from a classifier which domain a row is from."""

import math
from typing import Any

from torch import Tensor

from mtl.batch import Batch
from mtl.methods.domain_base import DomainMethod
from mtl.modules.domains import DomainClassifier


class DomainAdversarial(DomainMethod):
    """A shared encoder and classifier, and a domain classifier whose gradient reaches the encoder reversed.

    The reversal's strength rises from 0 to 1 in training, as 2 / (1 + exp(-10 p)) - 1 at a share p of the steps.

    Source: Ganin and Lempitsky 2015, sections 3.2 and 4; the adversarial baseline of Wang et al. 2020 (MFT).
    Reads: token ids.  Batches: any scheme whose batches mix tasks.  Per task: nothing.
    Relations: `MetaFineTuning` gives its domain classifier wrong targets instead, and reverses nothing.

    Args:
        domain_weight: What the domain classifier's loss counts for.
        pooling: What a row's vector is: the first token's state, the mean over tokens, or the backbone's own pooler.
        labels: `merged`, `union`, or `auto`: merged where all domains have as many classes.
        dropout: Share of the vector's entries that either classifier drops in training.
    """

    def __init__(self, domain_weight: float = 1.0, dropout: float = 0.1, **kwargs: Any) -> None:
        super().__init__(domain_weight=domain_weight, dropout=dropout, **kwargs)
        self.domain_classifier = DomainClassifier(self.encoder.width, len(self.tasks), dropout)
        self.strength = 0.0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One loss of all tasks present, with the reversal as strong as the step says."""
        share = self.trainer.global_step / float(self.trainer.estimated_stepping_batches)
        self.strength = 2 / (1 + math.exp(-10 * share)) - 1
        self.log("domain/strength", self.strength, batch_size=1)
        return super().training_step(batch, batch_idx)

    def passed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits of all classes, (B, classes), and each row's domain loss, (B,)."""
        vectors = self.encoder(batch)
        return self.head(vectors), self.domain_classifier(vectors, batch.task_ids, self.strength)
