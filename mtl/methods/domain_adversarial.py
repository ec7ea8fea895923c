"""An encoder trained against a classifier of the examples' domains."""

import math
from typing import Any

from torch import Tensor

from mtl.batch import Batch
from mtl.bounds import NonNegative, ShareBelowOne
from mtl.methods.domain_base import DomainMethod
from mtl.modules.domains import DomainClassifier


class DomainAdversarial(DomainMethod):
    """A shared encoder and classifier, and a domain classifier with gradient reversal.

    The strength of the reversal rises from 0 to 1 during training, as 2 / (1 + exp(-10 p)) - 1 at a
    fraction p of the steps.

    Source: Ganin and Lempitsky 2015, sections 3.2 and 4; the adversarial baseline of Wang et al.
    2020 (MFT).
    Reads: token ids.  Batches: any scheme whose batches mix tasks.  Per task: nothing.
    Relations: `MetaFineTuning` trains its domain classifier on wrong domains instead, without
    reversal.

    Args:
        domain_weight: Weight of the domain classifier's loss.
        dropout: Dropout probability of both classifiers.
    """

    def __init__(
        self, domain_weight: NonNegative = 1.0, dropout: ShareBelowOne = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(domain_weight=domain_weight, dropout=dropout, **kwargs)
        self.domain_classifier = DomainClassifier(self.encoder.width, len(self.tasks), dropout)
        self.strength = 0.0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The combined loss, with the strength of the reversal at this step."""
        progress = self.trainer.global_step / float(self.trainer.estimated_stepping_batches)
        self.strength = 2 / (1 + math.exp(-10 * progress)) - 1
        self.log("domain/strength", self.strength, batch_size=1)
        return super().training_step(batch, batch_idx)

    def logits_and_domain_losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits of all classes, shape (B, classes), and each example's domain loss, shape (B,)."""
        pooled = self.encoder(batch)
        # The order decides which dropout mask each of the two classifiers draws.
        logits = self.head(pooled)
        return logits, self.domain_classifier(pooled, batch.task_ids, self.strength)
