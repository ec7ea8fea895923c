"""The hooks that training calls on balancers, regularizers and sampling schemes."""

from collections.abc import Mapping
from typing import Any


class TrainingHooks:
    """Hooks of a training run, named as in Lightning. All do nothing by default.

    `MultiTaskModule` calls them in this order:

    1. `on_fit_start`: once, before the first step.
    2. For each step: `on_step_start`, the forward pass, the balancer's `combine` and `backward`,
       the optimizer update, `on_step_end`. The checkpoint of the step is written after
       `on_step_end`. With gradient accumulation, there is one update and one `on_step_end` for
       several batches.
    3. `on_epoch_end`: after each epoch.
    4. `on_fit_end`: once, after the last step.

    A balancer gets all of these. A regularizer gets `on_fit_start`, `on_step_start` and
    `on_step_end`; the latter before the balancer's. A sampling scheme gets `on_step_end`, after the
    balancer's, and `on_validation_scores`. Each declares the arguments that it receives.

    What an object remembers from one step to the next belongs in its checkpoint state, so that a
    resumed run continues exactly: `state_dict` of a data module, `get_extra_state` of a module.
    """

    def on_fit_start(self, *args: Any, **kwargs: Any) -> None:
        """Called once before training."""

    def on_step_start(self, *args: Any, **kwargs: Any) -> None:
        """Called before the forward pass of each training step."""

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Called after each optimizer update."""

    def on_validation_scores(self, scores: Mapping[str, float]) -> None:
        """Called after each validation of a training.

        Args:
            scores: Score of each task, the mean over its splits.
        """

    def on_epoch_end(self) -> None:
        """Called after each epoch."""

    def on_fit_end(self) -> None:
        """Called once after training."""
