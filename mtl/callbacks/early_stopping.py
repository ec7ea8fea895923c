"""Early stopping by the scores of the tasks, instead of their mean."""

from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from mtl.bounds import Count, NonNegative, check_bounds
from mtl.callbacks.typed_trainer import method_of
from mtl.methods.evaluation import scores_by_task


class TaskEarlyStopping(Callback):
    """Stops the training when all tasks, or any, have not improved in their last validations.

    Args:
        stop: `all`: when no task improves any more; `any`: when one of them does not.
        patience: Number of validations without improvement after which a task does not improve any
            more.
        min_delta: An improvement is more than this above the task's best score.

    Raises:
        UserError: If a number is out of bounds.
    """

    def __init__(
        self,
        stop: Literal["all", "any"] = "all",
        patience: Count = 3,
        min_delta: NonNegative = 0.0,
    ) -> None:
        self.stop, self.patience, self.min_delta = stop, patience, min_delta
        check_bounds(type(self), vars(self), "TaskEarlyStopping: ")
        self.best: dict[str, float] = {}
        self.waiting: dict[str, int] = {}  # validations since a task's last improvement

    def state_dict(self) -> dict[str, Any]:
        """The best score of each task, and how long ago it was."""
        return {"best": dict(self.best), "waiting": dict(self.waiting)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores scores and counts."""
        self.best, self.waiting = dict(state_dict["best"]), dict(state_dict["waiting"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the training if it is time to; all processes have the same scores."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        for task, score in scores_by_task(method_of(pl_module).latest).items():
            improved = task not in self.best or score > self.best[task] + self.min_delta
            self.waiting[task] = 0 if improved else self.waiting[task] + 1
            if improved:
                self.best[task] = score
        stalled = [task for task, count in self.waiting.items() if count >= self.patience]
        if len(stalled) == len(self.waiting) or (stalled and self.stop == "any"):
            rank_zero_info(
                f"the training stops: no improvement of {', '.join(stalled)} in the last "
                f"{self.patience} validations"
            )
            trainer.should_stop = True
