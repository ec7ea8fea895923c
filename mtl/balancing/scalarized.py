"""Weights on losses that are learned or follow the losses: torchjd's scalarizers."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, distributed, nn

from mtl.balancing.base import Balancer, TasksPerBatch
from mtl.balancing.torchjd_adapter import made, plain_state, restore
from mtl.batch import Batch


class Scalarized(Balancer):
    """One loss of the tasks' losses by a rule that learns or watches them: uncertainty weighting, DWA, FAMO, IMTL-L, ...

    Source: the rules are torchjd's, each of which names its paper.

    Args:
        scalarizer: The rule: one of torchjd's, such as `torchjd.scalarization.UW`.
        scalarizer_args: Its arguments, such as `{temperature: 2.0}` for DWA; the number of tasks is known.

    Raises:
        UserError: If the arguments do not fit.
    """

    needs: ClassVar[TasksPerBatch] = "all"

    def __init__(
        self, scalarizer: type[nn.Module], scalarizer_args: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self._make, self._args = scalarizer, scalarizer_args or {}
        self._draw = 0

    def setup(self, tasks: Sequence[str]) -> None:
        """Makes the rule for so many tasks; what it learns is learned with the model."""
        self.rule: Any = made(self._make, self._args, len(tasks))
        self.recomputes_losses = hasattr(self.rule, "update")

    def on_step_start(self, batch: Batch, seed: int) -> None:
        """Notes the seed of the step."""
        self._draw = seed

    def combine(self, losses: Mapping[str, Tensor], rows: Mapping[str, float]) -> Tensor:
        """What the rule makes of the losses; with several processes of their mean, so that all processes weigh alike."""
        vector = everywhere(torch.stack(list(losses.values())))
        with torch.random.fork_rng():
            torch.manual_seed(self._draw)
            return self.rule(vector)

    def on_step_end(self, losses: Mapping[str, Tensor]) -> None:
        """Shows FAMO the losses of the same batch after the update."""
        if self.recomputes_losses:
            self.rule.update(everywhere(torch.stack(list(losses.values()))))

    def on_epoch_end(self) -> None:
        """Lets DWA compare this epoch with the one before."""
        if hasattr(self.rule, "step"):
            self.rule.step()

    def get_extra_state(self) -> dict[str, Any]:
        """What the rule remembers of earlier steps."""
        return plain_state(self.rule)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Goes on where the rule stood."""
        restore(self.rule, state)


def everywhere(losses: Tensor) -> Tensor:
    """The losses of all processes together, with the gradient of this one's."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return losses
    mean = losses.detach().clone()
    distributed.all_reduce(mean)
    return losses + (mean / distributed.get_world_size() - losses).detach()
