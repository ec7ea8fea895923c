"""What every balancer answers."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from mtl.batch import Batch

TasksPerBatch = Literal["one", "some", "all"]
"""How many of the tasks a batch holds."""


class Balancer(nn.Module):
    """Turns the losses of the tasks present in a step into one number to differentiate, and differentiates it."""

    needs: ClassVar[TasksPerBatch] = "one"
    """The fewest tasks that a batch must hold."""

    recomputes_losses: bool = False
    """Whether `on_step_end` receives the losses of the same batch with the updated weights."""

    def setup(self, tasks: Sequence[str]) -> None:
        """Called once when the method is made.

        Args:
            tasks: Names of its tasks.
        """

    def on_fit_start(self, method: nn.Module, sizes: Mapping[str, int]) -> None:
        """Called once before training.

        Args:
            method: The method whose losses are combined.
            sizes: Number of training examples of each task.
        """

    def on_step_start(self, batch: Batch, seed: int) -> None:
        """Called before the forward pass of a training step.

        Args:
            batch: The batch.
            seed: Seed for random draws; the same in all processes.
        """

    @abstractmethod
    def combine(self, losses: Mapping[str, Tensor], rows: Mapping[str, float]) -> Tensor:
        """One loss of the losses of the tasks present.

        Args:
            losses: Each task's mean loss, a scalar.
            rows: Each task's rows in the step, of all processes together, per process.
        """

    def backward(self, loss: Tensor) -> None:
        """Adds the step's gradients to `.grad`.

        Args:
            loss: What `combine` gave, scaled by the trainer for accumulation and precision.
        """
        loss.backward()

    def on_step_end(self, losses: Mapping[str, Tensor]) -> None:
        """Called after each update of the weights.

        Args:
            losses: Each task's mean loss in the last batch, before the update; after it if `recomputes_losses`.
        """

    def input_gradients_only(self) -> AbstractContextManager[Any]:
        """Within, a backward pass is for what passes through the model alone: no weight's gradient is computed."""
        return nullcontext()  # plain layers compute none that is not asked for

    def on_epoch_end(self) -> None:
        """Called once after every epoch."""

    def on_fit_end(self) -> None:
        """Called once after training."""
