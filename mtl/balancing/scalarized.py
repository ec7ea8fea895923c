"""Loss weights that are learned or depend on the losses: torchjd's scalarizers."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtl.balancing.base import Balancer
from mtl.balancing.torchjd_adapter import construct, plain_state, restore
from mtl.batch import Batch, TasksPerBatch
from mtl.training.distributed import with_mean_value


class Scalarized(Balancer):
    """Combines the losses with a scalarizer: uncertainty weighting, DWA, FAMO, IMTL-L, ...

    Source: torchjd's documentation of each scalarizer cites its paper.

    Args:
        scalarizer: Class of the scalarizer, such as `torchjd.scalarization.UW`.
        scalarizer_args: Its arguments, such as `{temperature: 2.0}` for DWA. The number of tasks is
            filled in.

    Raises:
        UserError: If the arguments do not fit.
    """

    needs: TasksPerBatch = "all"

    def __init__(
        self, scalarizer: type[nn.Module], scalarizer_args: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self._class, self._args = scalarizer, scalarizer_args or {}
        self._seed = 0

    def setup(self, tasks: Sequence[str]) -> None:
        """Constructs the scalarizer. Its parameters are trained with the model's."""
        self.rule: Any = construct(self._class, self._args, len(tasks))
        self.recomputes_losses = hasattr(self.rule, "update")

    def on_step_start(self, batch: Batch, seed: int) -> None:
        """Stores the seed of the step."""
        self._seed = seed

    def combine(self, losses: Mapping[str, Tensor], examples: Mapping[str, float]) -> Tensor:
        """Applies the scalarizer to the losses.

        With several processes it gets the mean over them, so that the weights are equal everywhere.
        """
        vector = with_mean_value(torch.stack(list(losses.values())))
        with torch.random.fork_rng():
            torch.manual_seed(self._seed)
            return self.rule(vector)

    def on_losses_recomputed(self, losses: Mapping[str, Tensor]) -> None:
        """Passes the losses of the same batch after the update to FAMO."""
        self.rule.update(with_mean_value(torch.stack(list(losses.values()))))

    def on_epoch_end(self) -> None:
        """Lets DWA compare the losses of this epoch with those of the last one."""
        if hasattr(self.rule, "step"):
            self.rule.step()

    def get_extra_state(self) -> dict[str, Any]:
        """The state of the scalarizer."""
        return plain_state(self.rule)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restores the state of the scalarizer."""
        restore(self.rule, state)
