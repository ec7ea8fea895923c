"""Measures the tasks' gradients in an ordinary training step, without changing it."""

from collections.abc import Mapping

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from mtl.balancing.base import GradientStatistics
from mtl.balancing.gradient_capture import GradientCapture
from mtl.balancing.separate_backward import flatten_gradients, slow_task_gradients
from mtl.balancing.shared_parameters import shared_parameters
from mtl.balancing.task_gradients import TaskGradients, padded_tokens
from mtl.batch import Batch
from mtl.errors import UserError


class GradientProbe:
    """Computes inner products of the tasks' gradients in an additional backward pass.

    The pass does not change `.grad`. If a shared parameter cannot be captured, each task gets a
    backward pass of its own, and a warning is issued.

    Args:
        method: The method.

    Attributes:
        tasks: The tasks of the last pass.
        gramians: Inner products of their gradients, (tasks, tasks), for each group of parameters.

    Raises:
        UserError: If the method has no trainable shared parameters, or its attention is `packed`.
    """

    def __init__(self, method: nn.Module) -> None:
        if getattr(method, "attention", None) == "packed":
            raise UserError(
                "--model.attention packed: gradients of tasks cannot be measured; choose sdpa"
            )
        self._shared = shared_parameters(method)
        self._capture = GradientCapture(method, self._shared)
        self._gradients = TaskGradients(self._shared)
        self._warned = False
        self.tasks: list[str] = []
        self.gramians: dict[str, Tensor] = {}

    @property
    def gradient_statistics(self) -> GradientStatistics | None:
        """The measurements of the last pass; None if there was none."""
        return GradientStatistics(self.tasks, self.gramians, None) if self.gramians else None

    def start(self, batch: Batch) -> None:
        """Activates the capture for the forward pass of a step."""
        self._tokens = padded_tokens(batch)
        self._shares_examples = batch.shares_examples
        if not self._shares_examples:
            self._capture.start()

    def measure(self, losses: Mapping[str, Tensor]) -> None:
        """Measures the tasks' gradients. Keeps the graph, for the backward pass of the training.

        Args:
            losses: Mean loss of each task, a scalar.
        """
        self.tasks = list(losses)
        vector = torch.stack(list(losses.values()))
        names = self._capture.uncaptured_parameters(vector)
        if names or self._shares_examples:
            self._warn(names[0] if names else "tasks that label the same texts")
            gradients = slow_task_gradients(vector, torch.ones_like(vector), self._shared)
            vectors = torch.stack([flatten_gradients(each, self._shared) for each in gradients])
            self.gramians = {"all": vectors @ vectors.t()}
            return
        self._gradients.start(self.tasks, self._tokens)
        with self._capture.collect_into(self._gradients):
            shared = list(self._shared.values())
            torch.autograd.grad(vector.sum(), shared, retain_graph=True, allow_unused=True)
        self.gramians = self._gradients.gramians()
        self._gradients.clear()

    def stop(self) -> None:
        """Deactivates the capture.

        Call it after the backward pass of the training, which recomputes checkpointed layers as
        they were in the forward pass.
        """
        self._capture.stop()

    def end(self) -> None:
        """Restores the layers."""
        self._capture.remove()

    def _warn(self, name: str) -> None:
        if not self._warned:
            rank_zero_warn(
                "gradients are measured with a backward pass for each task, because that of "
                f"{name} cannot be captured"
            )
        self._warned = True
