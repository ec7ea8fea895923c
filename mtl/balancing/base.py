"""What every balancer answers."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from mtl.batch import Batch

Held = Literal["one", "some", "all"]
"""How many of the tasks a batch holds."""


class Balancer(nn.Module):
    """Turns the losses of the tasks present in a step into one number to differentiate, and differentiates it."""

    needs: ClassVar[Held] = "one"
    """The fewest tasks that a batch must hold."""

    looks_back: bool = False
    """Whether the losses of a batch are wanted once more after the update, in `look_back`."""

    def prepare(self, tasks: Sequence[str]) -> None:
        """Called once when the method is made, with the names of its tasks."""

    def start(self, sizes: Mapping[str, int]) -> None:
        """Called once before training.

        Args:
            sizes: Training rows of each task of the run.
        """

    def attach(self, method: nn.Module) -> None:
        """Called once before training, with the method whose losses these are."""

    def begin(self, batch: Batch, draw: int) -> None:
        """Called before the forward pass of a training step.

        Args:
            batch: Its batch.
            draw: A seed for what is drawn at random, the same in all processes.
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

    def look_back(self, losses: Mapping[str, Tensor]) -> None:
        """Called after an update with the losses of the same batch, where `looks_back`."""

    def inputs_alone(self) -> AbstractContextManager[Any]:
        """Within, a backward pass is for what passes through the model alone: no weight's gradient is computed."""
        return nullcontext()  # plain layers compute none that is not asked for

    def end_epoch(self) -> None:
        """Called once after every epoch."""

    def end(self) -> None:
        """Called once after training."""
