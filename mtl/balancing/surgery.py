"""Gradient surgery: combines the tasks' gradients of the shared parameters."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from mtl.balancing.base import Balancer, GradientStatistics
from mtl.balancing.gradient_capture import GradientCapture
from mtl.balancing.group_weights import By, GroupWeights
from mtl.balancing.separate_backward import flatten_gradients, slow_task_gradients
from mtl.balancing.shared_parameters import shared_parameters
from mtl.balancing.task_gradients import Mode, TaskGradients, padded_tokens, summed_by_group
from mtl.balancing.torchjd_adapter import construct
from mtl.batch import Batch, TasksPerBatch
from mtl.errors import UserError
from mtl.training.distributed import mean_over_processes, several_processes

# torchjd's classes that need more than the inner products of the tasks' gradients, or gradients of
# several batches.
UNSUPPORTED = (
    "ConFIG",
    "GradDrop",
    "TrimmedMean",
    "ExcessMTL",
    "ExcessMTLWeighting",
    "MoDoWeighting",
    "SDMGradWeighting",
    "CRMOGMWeighting",
)


class Surgery(Balancer):
    """Weights the tasks' gradients of the shared parameters: PCGrad, CAGrad, MGDA, ...

    The weights are computed from the inner products of the gradients. The gradients of all tasks
    come from one backward pass (`mtl.balancing.gradient_capture`), so a step costs as much as an
    ordinary one. Each task gets a backward pass of its own, and a warning is issued, if a shared
    parameter cannot be captured, or if tasks label the same texts of a batch (a label group).
    Parameters of single tasks, such as heads, get the gradient of their task, unchanged.

    Source: Yu et al. 2020, algorithm 1 (PCGrad); torchjd's documentation of each weighting cites
    its paper.

    Args:
        weighting: Class of the weighting, such as `torchjd.aggregation.PCGrad`.
        weighting_args: Its arguments, such as `{c: 0.4}` for CAGrad. The number of tasks is filled
            in.
        scale: `sum`: the shared parameters get the weighted sum of the gradients, as published.
            `mean`: the sum divided by the number of tasks.
        mode: `stored` keeps a copy of the shared gradients for each task. `two_pass` keeps none,
            but multiplies twice. `auto` chooses the faster one.
        by: What has weights of its own, computed from its own inner products: `all` shared
            parameters together, each `layer` of the encoder (embeddings and other parameters are
            one more each), or each `matrix`. Wang et al. 2021 (GradVac) compare such groups.

    Attributes:
        tasks: The tasks of the last step.
        gramians: Inner products of their gradients, (tasks, tasks), for each group of parameters.
        groups: The weights of their gradients, by group.

    Raises:
        UserError: If the weighting needs more than inner products, or its arguments do not fit.
    """

    measures_gradients = True

    def __init__(
        self,
        weighting: type[nn.Module],
        weighting_args: dict[str, Any] | None = None,
        scale: Literal["sum", "mean"] = "sum",
        mode: Mode = "auto",
        by: By = "all",
    ) -> None:
        super().__init__()
        name = weighting.__name__
        if name in UNSUPPORTED:
            raise UserError(
                f"weighting: {name} needs more than the inner products of gradients, which is not "
                "supported; choose another weighting, such as torchjd.aggregation.PCGrad"
            )
        # A weighting with state has one entry per task.
        self.needs: TasksPerBatch = "all" if hasattr(weighting, "reset") else "some"
        self.scale, self.mode, self.by = scale, mode, by
        self._class, self._args = weighting, weighting_args or {}
        self._seed = 0  # of the current step
        self._losses: Tensor | None = None  # with their graph, from `combine` to `backward`
        self.tasks: list[str] = []
        self.gramians: dict[str, Tensor] = {}

    @property
    def weights(self) -> Tensor:
        """Weights of the tasks' gradients, (tasks,): the mean over the groups."""
        return torch.stack(list(self.groups.weights.values())).mean(0)

    @property
    def stores_task_gradients(self) -> bool:
        """Whether a copy of the shared gradients is kept for each task."""
        return self.mode != "two_pass"

    @property
    def gradient_statistics(self) -> GradientStatistics | None:
        """The inner products that the weights were computed from, and the weights."""
        if not self.gramians:
            return None
        return GradientStatistics(self.tasks, self.groups.by_layer(self.gramians), self.weights)

    def setup(self, tasks: Sequence[str]) -> None:
        """Constructs the weighting."""
        make = partial(construct, self._class, self._args, len(tasks))
        make()  # checks the arguments
        self.groups = GroupWeights(make, self.by)

    def on_fit_start(self, method: Any, sizes: Mapping[str, int]) -> None:
        """Captures the gradients of the shared parameters.

        Raises:
            UserError: If there are none, or if `mode` is `two_pass` with several processes.
        """
        self.shared = shared_parameters(method)
        if self.mode == "two_pass" and several_processes():
            raise UserError(
                "Surgery: mode: two_pass works in one process only, because averaging over "
                "processes needs complete gradients; choose stored or auto"
            )
        self.capture = GradientCapture(method, self.shared)
        group = str if self.by == "matrix" else None
        self.gradients = TaskGradients(self.shared, self.mode, group)
        self._checked: set[tuple[str, ...]] = set()  # combinations of tasks
        self._separate_passes = self._shared_examples = self._warned = False

    def on_step_start(self, batch: Batch, seed: int) -> None:
        """Activates the capture for the forward pass."""
        self._seed = seed
        self._tokens = padded_tokens(batch)
        self._shared_examples = batch.shares_examples
        if self._shared_examples and not self._warned:
            self._warned = True
            rank_zero_warn(
                "gradient surgery runs a backward pass for each task, because tasks label the same "
                "texts; --data.label_groups false draws them separately, with one backward pass"
            )
        if not self._separate_passes and not self._shared_examples:
            self.capture.start()

    def combine(self, losses: Mapping[str, Tensor], examples: Mapping[str, float]) -> Tensor:
        """Sum of the losses."""
        self.tasks, self._losses = list(losses), torch.stack(list(losses.values()))
        return self._losses.sum()

    def backward(self, loss: Tensor) -> None:
        """Gives shared parameters the combined gradient, and others the gradient of the sum."""
        losses, self._losses = self._losses, None
        assert losses is not None
        # The trainer may have scaled the loss; this gives its factor for each task's loss.
        (factors,) = torch.autograd.grad(loss, losses)
        if not self._shared_examples:
            self._check_capture(losses)
        if self._separate_passes or self._shared_examples:
            self._backward_per_task(losses, factors)
        else:
            self.gradients.start(self.tasks, self._tokens)
            with self.capture.collect_into(self.gradients):
                torch.autograd.backward(losses, factors)
            self._compute_weights(self.gradients.gramians(), factors)
            self.gradients.write(self._weights_of)
            self.gradients.clear()
        self.capture.stop()

    def input_gradients_only(self) -> AbstractContextManager[Any]:
        """Context manager: compute gradients with respect to inputs only, not weights."""
        return self.capture.input_gradients_only()

    def on_fit_end(self) -> None:
        """Ends the capture."""
        self.capture.remove()

    def get_extra_state(self) -> dict[str, Any]:
        """The state of the weightings."""
        return self.groups.state()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restores the state of the weightings."""
        self.groups.restore(state)

    def _check_capture(self, losses: Tensor) -> None:
        """Changes to separate passes if a parameter is not captured; checks a set of tasks once."""
        if self._separate_passes or tuple(self.tasks) in self._checked:
            return
        self._checked.add(tuple(self.tasks))
        if names := self.capture.uncaptured_parameters(losses):
            self._separate_passes = True
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            rank_zero_warn(
                "gradient surgery runs a backward pass for each task, because the gradients of "
                f"{len(names)} parameters or layers cannot be captured: {shown}"
            )

    def _backward_per_task(self, losses: Tensor, factors: Tensor) -> None:
        gradients = slow_task_gradients(losses, factors, self.shared)
        # One vector per task, (tasks, entries).
        vectors = torch.stack([flatten_gradients(each, self.shared) for each in gradients])
        if several_processes():
            vectors = mean_over_processes(vectors)
        before = [None if p.grad is None else p.grad.clone() for p in self.shared.values()]
        torch.autograd.backward(losses, factors)
        pieces = vectors.split([parameter.numel() for parameter in self.shared.values()], dim=1)
        products = (
            (name, piece @ piece.t()) for name, piece in zip(self.shared, pieces, strict=True)
        )
        self._compute_weights(summed_by_group(products, self.groups.group), factors)
        for index, (name, parameter) in enumerate(self.shared.items()):
            if all(each[index] is None for each in gradients):
                continue  # no loss depends on it
            combined = self._weights_of(name) @ pieces[index]
            gradient = combined.view_as(parameter).to(parameter.dtype)
            old = before[index]
            parameter.grad = gradient if old is None else old + gradient

    def _compute_weights(self, gramians: dict[str, Tensor], factors: Tensor) -> None:
        """Computes the weights from the inner products, without the trainer's scale."""
        scales = torch.outer(factors, factors).float()
        self.gramians = {group: gramian / scales for group, gramian in gramians.items()}
        self.groups.compute(self.gramians, self._seed)

    def _weights_of(self, name: str) -> Tensor:
        """The weights of the tasks' gradients of a parameter, scaled."""
        weights = self.groups.weights[self.groups.group(name)].float()
        return weights / (len(self.tasks) if self.scale == "mean" else 1)
