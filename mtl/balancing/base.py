"""The base class of balancers."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn

from mtl.batch import Batch, TasksPerBatch
from mtl.training.lifecycle import TrainingHooks


class Balancer(TrainingHooks, nn.Module):
    """Combines the losses of the tasks in a batch into one loss and computes its gradients.

    A subclass must override `combine`. `TrainingHooks` states when the hooks are called.
    """

    needs: TasksPerBatch = "one"
    """The fewest tasks that a batch must contain; a run with other batches refuses to start."""

    recomputes_losses: bool = False
    """Whether `on_step_end` receives the losses of the same batch with the updated weights."""

    def setup(self, tasks: Sequence[str]) -> None:
        """Called once, when the method is constructed.

        Args:
            tasks: Names of the tasks.
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
            seed: Seed for random numbers, the same in all processes.
        """

    @abstractmethod
    def combine(self, losses: Mapping[str, Tensor], examples: Mapping[str, float]) -> Tensor:
        """Combines the losses of the tasks in a batch into one scalar loss.

        Args:
            losses: Mean loss of each task, a scalar.
            examples: Number of examples of each task in the batches of all processes, divided by
                the number of processes.
        """

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of the step to `.grad`.

        Args:
            loss: The loss from `combine`, scaled by the trainer for accumulation and precision.
        """
        loss.backward()

    def on_step_end(self, losses: Mapping[str, Tensor]) -> None:
        """Called after each optimizer update.

        Args:
            losses: Mean loss of each task in the last batch, computed before the update, or after
                it if `recomputes_losses`.
        """

    def input_gradients_only(self) -> AbstractContextManager[Any]:
        """Context manager: compute gradients with respect to inputs only, not weights."""
        return nullcontext()  # autograd skips weight gradients that `torch.autograd.grad` omits
