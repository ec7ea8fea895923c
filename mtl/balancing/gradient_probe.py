"""The tasks' gradients of an ordinary training step, looked at beside it."""

from collections.abc import Mapping

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from mtl.balancing.gradient_capture import GradientCapture, uncaptured_parameters
from mtl.balancing.surgery import flat, shared_parameters
from mtl.balancing.task_gradients import TaskGradients, slow_task_gradients
from mtl.batch import Batch, length_groups
from mtl.errors import UserError


class GradientProbe:
    """Inner products of the tasks' gradients from a backward pass of their own, which leaves `.grad` alone.

    Args:
        method: The method.

    Attributes:
        tasks: The tasks of the last pass.
        gramians: Inner products of their gradients, (tasks, tasks), by group of parameters.

    Raises:
        UserError: If the tasks share nothing.
    """

    def __init__(self, method: nn.Module) -> None:
        self._shared = shared_parameters(method)
        if not self._shared:
            raise UserError(
                f"{type(method).__name__} shares no trained parameter between tasks: no gradients meet"
            )
        self._taps = GradientCapture(method, self._shared)
        self._gradients = TaskGradients(self._shared)
        self._slow = False
        self.tasks: list[str] = []
        self.gramians: dict[str, Tensor] = {}

    def start(self, batch: Batch) -> None:
        """Listens to the forward pass of a step."""
        self._tokens = sum(
            (rows.stop - rows.start) * length for rows, length in length_groups(batch)
        )
        self._taps.start()

    def measure(self, losses: Mapping[str, Tensor]) -> None:
        """Measures the tasks' gradients; the graph stays for the pass that trains.

        Args:
            losses: Each task's mean loss, a scalar.

        A shared parameter whose gradient cannot be kept by task costs a backward pass for each task.
        """
        self.tasks = list(losses)
        vector = torch.stack(list(losses.values()))
        if names := uncaptured_parameters(vector, self._taps, self._shared):
            if not self._slow:
                rank_zero_warn(
                    f"gradients are measured by a backward pass for each task: {names[0]} is of a kind not known"
                )
            self._slow = True
            gradients = slow_task_gradients(vector, torch.ones_like(vector), self._shared)
            rows = torch.stack([flat(row, self._shared) for row in gradients])
            self.gramians = {"all": rows @ rows.t()}
            return
        self._gradients.start(self.tasks, self._tokens)
        self._taps.keeper = self._gradients
        try:
            wanted = list(self._shared.values())
            torch.autograd.grad(vector.sum(), wanted, retain_graph=True, allow_unused=True)
        finally:
            self._taps.keeper = None
        self.gramians = self._gradients.gramians()

    def stop(self) -> None:
        """Listens no more; after the pass that trains, which may compute layers anew as they were."""
        self._taps.listening = False

    def end(self) -> None:
        """Gives the layers back."""
        self._taps.remove()
