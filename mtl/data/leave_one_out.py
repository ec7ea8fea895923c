"""Few-shot training on all tasks but one, which is only tested."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtl.bounds import Count
from mtl.data.evaluations import Evaluation
from mtl.data.k_shot import KShotDataModule
from mtl.data.order import Draw, Stream
from mtl.errors import UserError, reject_unknown
from mtl.tasks import Task


class RandomTasksOrder:
    """In each step some random tasks and one random example of each, independent of other steps.

    Args:
        streams: The tasks, for their sizes.
        picks: Tasks drawn in a step.
        steps: Steps in an epoch.
        seed: The run's seed.
        distinct: Whether tasks are drawn without replacement, rather than with replacement.
    """

    def __init__(
        self, streams: Sequence[Stream], picks: int, steps: int, seed: int, distinct: bool = False
    ) -> None:
        self.streams, self.picks, self.steps = streams, picks, steps
        self.seed, self.distinct = seed, distinct

    def __call__(self, epoch: int, step: int) -> list[Draw]:
        """The examples of a step, task by task."""
        chance = np.random.default_rng([self.seed, epoch, step])
        tasks = chance.choice(len(self.streams), self.picks, replace=not self.distinct)
        examples = chance.integers([self.streams[task].size for task in tasks])
        return [Draw(self.streams[task].task, examples[tasks == task]) for task in np.unique(tasks)]


class LeaveOneOutKShotDataModule(KShotDataModule):
    """Trains on k examples of each class of all tasks but one, which is only tested.

    The held-out task is tested on all of its test examples. Each step draws `batch_size` of the
    k-shot sets, all tasks equally likely whatever their number of classes, and one example from
    each set. The checkpoint is selected on the k-shot selection examples of the tasks trained on:
    the held-out task's examples are used neither for training nor for selection.

    Source: the leave-one-out multi-task stage in front of LM-BFF: 10 of the sets in a step, 100
    steps in an epoch, 10 epochs.

    Args:
        held_out: Name of the task that is not trained on.
        batch_size: Examples in a step, over all processes.
        steps: Steps in an epoch.
        distinct_tasks: Whether a step's examples are of different tasks, as the published text
            suggests; its code draws tasks with replacement.
        regression: Whether regression tasks (STS-B) are trained on too. In the publication they are
            only tested.

    Raises:
        UserError: If there is no such task, no other task to train on, `steps` is below 1, or
            `distinct_tasks` needs more tasks than there are.
    """

    def __init__(
        self,
        held_out: str,
        batch_size: Count = 10,
        steps: Count = 100,
        distinct_tasks: bool = False,
        regression: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        reject_unknown("held_out", "task", [held_out], [task.name for task in self.tasks])
        self.held_out, self.steps = held_out, steps
        self.distinct_tasks, self.regression = distinct_tasks, regression
        count = sum(map(self.trains_on, self.tasks))
        if not count:
            raise UserError(
                f"held_out: there is no task to train on except {held_out!r}; add another task, or "
                "train on regression tasks too: --data.regression true"
            )
        if distinct_tasks and batch_size > count:
            raise UserError(
                f"distinct_tasks: there are {count} tasks to train on, so give --data.batch_size "
                f"{count} or less"
            )

    def trains_on(self, task: Task) -> bool:
        """All tasks except the held-out one and, unless `regression`, those without classes."""
        return task.name != self.held_out and (self.regression or task.kind.has_class_probabilities)

    def order(self, streams: Sequence[Stream]) -> RandomTasksOrder:
        """`batch_size` examples per step."""
        return RandomTasksOrder(
            streams, self.batch_size, self.steps, self.seed, self.distinct_tasks
        )

    def evaluations(self, stage: str) -> list[Evaluation]:
        """The held-out task to test and to predict; the other tasks to select the checkpoint."""
        evaluations = super().evaluations(stage)
        if stage in ("test", "predict"):
            return [item for item in evaluations if self.tasks[item.task].name == self.held_out]
        return [item for item in evaluations if self.trains_on(self.tasks[item.task])]
