"""Checks and reports at the start of a training run, and the losses of its updates."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from mtl.balancing import Balancer
from mtl.batch import TasksPerBatch
from mtl.errors import UserError
from mtl.modules.loss_options import LossOptions, class_weights
from mtl.tasks import Task

# From the fewest tasks to all of them.
TASKS_PER_BATCH = get_args(TasksPerBatch)


class UpdateWindow:
    """The losses of one optimizer update, which accumulates the gradients of several batches."""

    def __init__(self) -> None:
        self._losses: dict[str, list[Tensor]] = {}

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Adds the losses of one batch, by task."""
        for task, loss in losses.items():
            self._losses.setdefault(task, []).append(loss.detach())

    def close(self) -> dict[str, Tensor]:
        """Each task's mean loss over the batches that contain the task; empties the window."""
        losses, self._losses = self._losses, {}
        return {
            task: values[0] if len(values) == 1 else torch.stack(values).mean()
            for task, values in losses.items()
        }


def window_factor(trainer: Any) -> float:
    """What the loss of a batch is multiplied by if its accumulation window is incomplete: (1, ...).

    Args:
        trainer: The Trainer, in a training step.
    """
    size, batches = trainer.accumulate_grad_batches, trainer.num_training_batches
    index = trainer.fit_loop.epoch_loop.batch_progress.current.ready - 1
    start = index - index % size
    return max(1.0, size / (batches - start))


def check_tasks_per_batch(scheme: Any, balancer: Balancer, tasks: int) -> None:
    """Rejects a sampling scheme whose batches contain too few tasks for the balancer.

    Args:
        scheme: The data module.
        balancer: The balancer.
        tasks: Number of tasks of the method.

    Raises:
        UserError: If batches contain too few tasks.
    """
    order, needed, provided = TASKS_PER_BATCH, balancer.needs, scheme.tasks_per_batch
    if tasks > 1 and order.index(provided) < order.index(needed):
        raise UserError(
            f"{type(balancer).__name__} needs batches with {needed} of the tasks, but those of "
            f"{type(scheme).__name__} contain {provided}; add -c sampling/mixed"
        )


def training_class_weights(
    tasks: Sequence[Task], options: Mapping[str, LossOptions], scheme: Any
) -> dict[str, Tensor]:
    """The factors of the classes' losses, for the tasks that have such factors.

    Args:
        tasks: The tasks of the method.
        options: Options of the tasks' losses.
        scheme: The data module, after its setup for training.
    """
    found = {}
    for index, task in enumerate(tasks):
        if task.name in options and index in scheme.train_splits:
            labels = scheme.train_splits[index].labels
            weights = class_weights(task, options[task.name], labels)
            if weights is not None:
                found[task.name] = torch.from_numpy(weights).float()
    return found


def log_parameter_counts(module: LightningModule) -> None:
    """Prints and logs the numbers of all and of trained parameters."""
    total = sum(parameter.numel() for parameter in module.parameters())
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    rank_zero_info(f"{trained:,} of {total:,} parameters are trained ({trained / total:.1%})")
    for logger in module.loggers:
        logger.log_metrics(
            {"parameters/total": float(total), "parameters/trained": float(trained)}, step=0
        )
