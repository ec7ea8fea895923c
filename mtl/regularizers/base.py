"""The base class of regularizers."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mtl.batch import Batch
from mtl.training.lifecycle import TrainingHooks


class Regularizer(TrainingHooks, nn.Module):
    """Adds a penalty to the loss of each example.

    A subclass must override `forward`. It may use these members of the method (`MultiTaskModule`):
    `training_logits`, `divergences`, `loss_functions[task].of_values`, `input_gradients_only` and
    `reads_token_states`, and in `on_step_end` also `training_progress`. `TrainingHooks` states when
    the hooks are called.
    """

    @abstractmethod
    def forward(self, method: Any, batch: Batch, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Computes the penalty of each example, by task: shape (examples,), without fillers.

        Args:
            method: The method.
            batch: The batch.
            logits: The method's training logits for the batch, with their graph.
        """
