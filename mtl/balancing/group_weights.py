"""The weights of the tasks' gradients, of all shared parameters together or of groups of them."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mtl.balancing.task_gradients import layer_group, summed_by_group
from mtl.balancing.torchjd_adapter import apply_weighting, plain_state, restore

By = Literal["all", "layer", "matrix"]
# The group of all shared parameters together.
ALL = "all"


class GroupWeights:
    """Applies a weighting to each group of parameters.

    Args:
        make: Makes a weighting; each group has its own, because some have state.
        by: What is a group; see `Surgery`.

    Attributes:
        weights: The weights of the last step, (tasks,), by group.
    """

    def __init__(self, make: Callable[[], nn.Module], by: By) -> None:
        self._make, self.by = make, by
        self._weightings = {ALL: make()} if by == "all" else {}
        self.weights: dict[str, Tensor] = {}

    def group(self, name: str) -> str:
        """The group of a parameter by its name."""
        return {"all": ALL, "layer": layer_group(name), "matrix": name}[self.by]

    def compute(self, gramians: Mapping[str, Tensor], seed: int) -> None:
        """Computes the weights of each group.

        Args:
            gramians: Inner products of the tasks' gradients, (tasks, tasks), by group; those of
                all groups are added if `by` is `all`.
            seed: Seed of the random choices, the same for each group.
        """
        total = torch.stack(list(gramians.values())).sum(0)
        groups = {ALL: total} if self.by == "all" else gramians
        if not total.isfinite().all():  # an overflow: the trainer's gradient scaler skips the step
            self.weights = {group: total.new_ones(len(total)) for group in groups}
            return
        with torch.random.fork_rng(), torch.no_grad(), warnings.catch_warnings():
            # From cvxpy, in every step, for the optimization problem of Nash-MTL.
            warnings.filterwarnings("ignore", message=".*not DPP.*")
            self.weights = {}
            for group, gramian in groups.items():
                torch.manual_seed(seed)
                self.weights[group] = apply_weighting(self._weighting(group), gramian).to(total)

    def by_layer(self, gramians: dict[str, Tensor]) -> dict[str, Tensor]:
        """The inner products of layers, which are shown, from those of matrices."""
        if self.by != "matrix":
            return gramians
        return summed_by_group(gramians.items(), layer_group)

    def state(self) -> dict[str, Any]:
        """The state of the weightings."""
        if self.by == "all":
            return plain_state(self._weightings[ALL])
        return {group: plain_state(each) for group, each in self._weightings.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores the state of the weightings."""
        for group, each in ({ALL: state} if self.by == "all" else state).items():
            restore(self._weighting(group), each)

    def _weighting(self, group: str) -> nn.Module:
        if group not in self._weightings:
            self._weightings[group] = self._make()
        return self._weightings[group]
