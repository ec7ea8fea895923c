"""The hooks that training calls on balancers, regularizers and sampling schemes."""

from typing import Any


class TrainingHooks:
    """Hooks of a training run, named as in Lightning. All do nothing by default.

    Training calls them in this order:

    1. `on_fit_start`: once, before the first step.
    2. For every step: `on_step_start` before the forward pass; `on_step_end` after each optimizer
       update, before the checkpoint of that step is written. With gradient accumulation, several
       `on_step_start` precede one `on_step_end`.
    3. `on_epoch_end`: after each epoch.
    4. `on_fit_end`: once, after the last step.

    Between the start and the end of a step, the balancer's `combine` and `backward` and the
    regularizer's `forward` are called. Subclasses declare the arguments that they receive.

    What a subclass remembers from one step to the next belongs in its checkpoint state
    (`state_dict`, or `get_extra_state` of a module), so that a resumed run continues exactly.
    """

    def on_fit_start(self, *args: Any, **kwargs: Any) -> None:
        """Called once before training."""

    def on_step_start(self, *args: Any, **kwargs: Any) -> None:
        """Called before the forward pass of each training step."""

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Called after each optimizer update."""

    def on_epoch_end(self) -> None:
        """Called after each epoch."""

    def on_fit_end(self) -> None:
        """Called once after training."""
