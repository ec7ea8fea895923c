"""The base class of balancers."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from torch import Tensor, nn

from mtl.batch import TasksPerBatch
from mtl.training.lifecycle import TrainingHooks


class GradientStatistics(NamedTuple):
    """Measurements of the tasks' gradients of the shared parameters in a step.

    Attributes:
        tasks: Names of the tasks.
        gramians: Inner products of their gradients, (tasks, tasks), for each group of parameters.
        weights: Weights of their gradients, (tasks,); None if the gradients are not combined by
            weights.
    """

    tasks: list[str]
    gramians: dict[str, Tensor]
    weights: Tensor | None


class Balancer(TrainingHooks, nn.Module):
    """Combines the losses of the tasks in a batch into one loss and computes its gradients.

    A subclass must override `combine`. `TrainingHooks` states when the hooks are called.
    """

    needs: TasksPerBatch = "one"
    """The fewest tasks that a batch must contain; a run with other batches refuses to start."""

    measures_gradients: bool = False
    """Whether `gradient_statistics` are computed in every step."""

    recomputes_losses: bool = False
    """Whether `on_losses_recomputed` is called, which costs a forward pass per update."""

    @property
    def stores_task_gradients(self) -> bool:
        """Whether a copy of the shared gradients is kept for each task, which takes memory."""
        return False

    @property
    def gradient_statistics(self) -> GradientStatistics | None:
        """Measurements of the last step; None if there are none."""
        return None

    def setup(self, tasks: Sequence[str]) -> None:
        """Called once, when the method is constructed, before a checkpoint is loaded.

        Args:
            tasks: Names of the tasks.
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

    def on_losses_recomputed(self, losses: Mapping[str, Tensor]) -> None:
        """Called after `on_step_end` if `recomputes_losses`.

        Args:
            losses: Mean loss of each task in the last batch of the update, with the updated
                weights and the same dropout masks; without the regularizer.
        """

    def input_gradients_only(self) -> AbstractContextManager[Any]:
        """Context manager: compute gradients with respect to inputs only, not weights."""
        return nullcontext()  # autograd skips weight gradients that `torch.autograd.grad` omits
