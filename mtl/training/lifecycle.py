"""The hooks that training calls on balancers, regularizers and sampling schemes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mtl.batch import Batch


class TrainingHooks:
    """Hooks of a training run, named as in Lightning. All do nothing by default.

    `MultiTaskModule` calls each hook on the balancer, then on the regularizer, then on the sampling
    scheme, with the same arguments:

    1. `on_fit_start`: once, before the first step.
    2. For each batch: `on_step_start`, the forward pass, the balancer's `combine` and `backward`.
       After the last batch of an update (every batch, without gradient accumulation): the optimizer
       update, `on_step_end`. The checkpoint of the step is written after `on_step_end`.
    3. `on_validation_scores` and `on_validation_losses`: after each validation.
    4. `on_epoch_end`: after each epoch.
    5. `on_fit_end`: once, after the last step.

    `setup` is not among them: a balancer's `setup(tasks)` is called when the method is constructed,
    before checkpoints are loaded, and a scheme's `setup(stage)` is Lightning's.

    What an object remembers from one step to the next belongs in its checkpoint state, so that a
    resumed run continues exactly: `state_dict` of a data module, `get_extra_state` of a module.
    """

    def on_fit_start(self, method: Any, sizes: Mapping[str, int]) -> None:
        """Called once before training.

        Args:
            method: The method that is trained, a `MultiTaskModule`.
            sizes: Number of training examples of each task.
        """

    def on_step_start(self, batch: Batch, seed: int) -> None:
        """Called before the forward pass of each training batch.

        Args:
            batch: The batch of this process.
            seed: Seed for random numbers, the same in all processes.
        """

    def on_step_end(self, losses: Mapping[str, Tensor]) -> None:
        """Called after each optimizer update.

        Args:
            losses: For each task in the batches of this update its mean training loss over them,
                computed before the update: a detached scalar, of this process alone. Call
                `mtl.training.distributed.mean_over_processes` before a decision depends on it.
        """

    def on_validation_scores(self, scores: Mapping[str, float]) -> None:
        """Called after each validation during training.

        Args:
            scores: Score of each task that was evaluated, the mean over its splits; the same in all
                processes.
        """

    def on_validation_losses(self, losses: Mapping[str, float]) -> None:
        """Called after `on_validation_scores`.

        Args:
            losses: Mean loss of each task that was evaluated, the mean over its splits; the same in
                all processes.
        """

    def on_epoch_end(self) -> None:
        """Called after each epoch."""

    def on_fit_end(self) -> None:
        """Called once after training."""
