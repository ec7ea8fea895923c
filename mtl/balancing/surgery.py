"""Surgery on gradients: how the tasks' gradients of what they share become one."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, distributed, nn

from mtl.balancing.base import Balancer, TasksPerBatch
from mtl.balancing.gradient_capture import GradientCapture, uncaptured_parameters
from mtl.balancing.task_gradients import Mode, TaskGradients, several_processes, slow_task_gradients
from mtl.balancing.torchjd_adapter import made, plain_state, restore
from mtl.batch import Batch, length_groups
from mtl.errors import UserError

# What torchjd makes of more than inner products of the tasks' gradients, or of gradients of several batches.
BEYOND = (
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
    """Weighs the tasks' gradients of the shared parameters by their inner products: PCGrad, CAGrad, MGDA, ...

    All tasks' gradients come from one backward pass, so a step costs what an ordinary one costs; a layer of a kind that is
    not known takes a pass for each task instead, and a warning says so. Parameters of single tasks, such as heads, keep
    their own task's gradient as it is.

    Source: Yu et al. 2020 (PCGrad), algorithm 1; the weightings are torchjd's, each of which names its paper.

    Args:
        weighting: The rule: one of torchjd's, such as `torchjd.aggregation.PCGrad`.
        weighting_args: Its arguments, such as `{c: 0.4}` for CAGrad; the number of tasks is known.
        scale: Whether the shared parameters get the weighted `sum` of the gradients, as published, or that divided by the
            number of tasks.
        mode: `stored` keeps a copy of the shared gradients for each task; `two_pass` keeps none and multiplies twice;
            `auto` takes what is faster.

    Raises:
        UserError: If the rule needs more than inner products, or its arguments do not fit.
    """

    def __init__(
        self,
        weighting: type[nn.Module],
        weighting_args: dict[str, Any] | None = None,
        scale: Literal["sum", "mean"] = "sum",
        mode: Mode = "auto",
    ) -> None:
        super().__init__()
        name = weighting.__name__
        if name in BEYOND:
            raise UserError(
                f"weighting: {name} needs more than the inner products of gradients, which is not offered"
            )
        self.needs: TasksPerBatch = "all" if hasattr(weighting, "reset") else "some"  # type: ignore[misc]
        self.scale, self.mode = scale, mode
        self._make, self._args = weighting, weighting_args or {}
        self._rule: tuple[
            nn.Module, ...
        ] = ()  # in a tuple, so that no buffer of it is looked for in a checkpoint
        self.tasks: list[str] = []
        self.gramians: dict[str, Tensor] = {}
        self.weights = torch.zeros(0)

    def setup(self, tasks: Sequence[str]) -> None:
        """Makes the rule for so many tasks."""
        self._rule = (made(self._make, self._args, len(tasks)),)

    def on_fit_start(self, method: nn.Module, sizes: Mapping[str, int]) -> None:
        """Finds what is shared, and taps it.

        Raises:
            UserError: If the tasks share nothing, or `two_pass` is to work in several processes.
        """
        shared = shared_parameters(method)
        if not shared:
            raise UserError(
                f"{type(method).__name__} shares no trained parameter between tasks: no gradients meet"
            )
        if (
            self.mode == "two_pass" and several_processes()
        ):  # the mean over processes is taken of whole gradients
            raise UserError("Surgery: mode: two_pass works in one process; choose stored, or auto")
        self.shared, self.taps = shared, GradientCapture(method, shared)
        self.gradients = TaskGradients(shared, self.mode)
        self._walked: set[tuple[str, ...]] = set()
        self._slow = False

    def on_step_start(self, batch: Batch, seed: int) -> None:
        """Listens to the forward pass."""
        self._draw = seed
        self._tokens = sum(
            (rows.stop - rows.start) * length for rows, length in length_groups(batch)
        )
        if not self._slow:
            self.taps.start()

    def combine(self, losses: Mapping[str, Tensor], rows: Mapping[str, float]) -> Tensor:
        """Their sum, which each task's own parameters see."""
        self.tasks, self._losses = list(losses), torch.stack(list(losses.values()))
        return self._losses.sum()

    def backward(self, loss: Tensor) -> None:
        """The shared parameters get the combined gradient, all others their own."""
        losses, tasks = self._losses, self.tasks
        (factors,) = torch.autograd.grad(loss, losses)  # the trainer's scale rides on the graph
        if not self._slow and tuple(tasks) not in self._walked:
            self._walked.add(tuple(tasks))
            if names := uncaptured_parameters(losses, self.taps, self.shared):
                self._slow = True
                shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                rank_zero_warn(
                    f"gradient surgery takes a backward pass for each task: {len(names)} parts are not known ({shown})"
                )
        if self._slow:
            self._slowly(losses, factors)
        else:
            self.gradients.start(tasks, self._tokens)
            self.taps.keeper = self.gradients
            try:
                torch.autograd.backward(losses, factors)
            finally:
                self.taps.keeper = None
            self._weigh(self.gradients.gramians(), factors)
            self.gradients.write(self._scaled())
        self.taps.listening = False

    def input_gradients_only(self) -> AbstractContextManager[Any]:
        """Within, a backward pass is for what passes through the model alone: no weight's gradient is computed."""
        return self.taps.input_gradients_only()

    def on_fit_end(self) -> None:
        """Gives the layers back."""
        self.taps.remove()

    def get_extra_state(self) -> dict[str, Any]:
        """What the rule remembers of earlier steps."""
        return plain_state(self._rule[0])

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Goes on where the rule stood."""
        restore(self._rule[0], state)

    def _slowly(self, losses: Tensor, factors: Tensor) -> None:
        gradients = slow_task_gradients(losses, factors, self.shared)
        rows = torch.stack([flat(row, self.shared) for row in gradients])
        if several_processes():
            distributed.all_reduce(rows)
            rows /= distributed.get_world_size()
        used = [
            any(row[place] is not None for row in gradients) for place in range(len(self.shared))
        ]
        before = [None if p.grad is None else p.grad.clone() for p in self.shared.values()]
        torch.autograd.backward(losses, factors)
        self._weigh({"all": rows @ rows.t()}, factors)
        combined = (self._scaled() @ rows).split(
            [parameter.numel() for parameter in self.shared.values()]
        )
        for parameter, part, old, has in zip(
            self.shared.values(), combined, before, used, strict=True
        ):
            if has:
                gradient = part.view_as(parameter).to(parameter.dtype)
                parameter.grad = gradient if old is None else old + gradient

    def _weigh(self, gramians: dict[str, Tensor], factors: Tensor) -> None:
        """The weights that the rule gives, from inner products without the trainer's scale."""
        scales = torch.outer(factors, factors).float()
        self.gramians = {group: gramian / scales for group, gramian in gramians.items()}
        whole = torch.stack(list(self.gramians.values())).sum(0)
        if not whole.isfinite().all():  # an overflow, which the trainer's scaler is about to skip
            self.weights = torch.ones_like(factors, dtype=torch.float)
            return
        with torch.random.fork_rng(), torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=".*not DPP.*"
            )  # cvxpy, of Nash-MTL's problem, at every step
            torch.manual_seed(self._draw)
            self.weights = self._weights(whole).to(whole)

    def _weights(self, gramian: Tensor) -> Tensor:
        rule: Any = self._rule[0]
        rule = getattr(rule, "gramian_weighting", getattr(rule, "weighting", rule))
        if not _reads_a_matrix(rule):
            return rule(gramian)
        # It takes the matrix of gradients, of which it uses the inner products alone: any root of them does.
        values, vectors = torch.linalg.eigh(gramian.double())
        return rule((vectors * values.clamp(min=0).sqrt()).to(gramian))

    def _scaled(self) -> Tensor:
        return self.weights / (len(self.tasks) if self.scale == "mean" else 1)


def shared_parameters(method: nn.Module) -> dict[str, nn.Parameter]:
    """The trained parameters that several tasks share, by name: all but those of single tasks and of the balancer."""
    own = set()
    for module in method.modules():
        if isinstance(module, Balancer) or getattr(module, "task_specific", False):
            own |= {id(parameter) for parameter in module.parameters()}
    named = method.named_parameters()
    return {
        name: parameter
        for name, parameter in named
        if parameter.requires_grad and id(parameter) not in own
    }


def _reads_a_matrix(rule: Any) -> bool:
    return any(base.__name__ == "_MatrixWeighting" for base in type(rule).__mro__)


def flat(gradients: Sequence[Tensor | None], shared: Mapping[str, Tensor]) -> Tensor:
    """A task's gradients of the shared parameters as one row, fp32, (parameters,); zeros where there is none."""
    pairs = zip(gradients, shared.values(), strict=True)
    return torch.cat(
        [
            (torch.zeros_like(p) if gradient is None else gradient).flatten().float()
            for gradient, p in pairs
        ]
    )
