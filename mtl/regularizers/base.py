"""What every regulariser answers."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mtl.batch import Batch


class Regularizer(nn.Module):
    """Adds to each task's loss.

    Of a method it asks `training_logits`, `divergences`, `is_regression` and `input_gradients_only` (`MultiTaskModule`).
    """

    def on_fit_start(self, method: nn.Module) -> None:
        """Called once before training."""

    def on_step_start(self) -> None:
        """Called before a training step's forward pass."""

    @abstractmethod
    def forward(self, method: Any, batch: Batch, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """For each task present what is added to each of its rows' losses, shape (rows,), fillers left out.

        Args:
            method: The method.
            batch: The batch.
            logits: What the method made of it, with the graph.
        """

    def on_step_end(self, method: nn.Module, done: float) -> None:
        """Called after each update.

        Args:
            method: The method.
            done: The share of the training's updates that are done.
        """
