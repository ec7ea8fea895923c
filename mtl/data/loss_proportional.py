"""Tasks sampled in proportion to their training loss, or to the gap to a reference score."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from mtl.bounds import Count, Finite, ShareBelowOne
from mtl.data.base import MultiTaskDataModule
from mtl.data.interval_order import Interval, IntervalOrder, proportional
from mtl.data.order import Stream
from mtl.errors import UserError, reject_unknown
from mtl.training.distributed import mean_over_processes


class LossProportionalDataModule(MultiTaskDataModule):
    """One task per step, sampled in proportion to its need: a running mean of its training loss.

    The probabilities stay fixed for `interval` steps, so that batches can be prepared in advance;
    then they are computed again. Until the first loss or score is known, all tasks are equally
    likely. A task that runs out of examples starts again, reshuffled. With `num_workers`, the
    worker processes are started again in each interval.

    Source: Gottumukkala et al. 2020, dynamic sampling: in proportion to the gap between a task's
    validation score and its single-task score (`by: score`). Sampling by training loss is a variant
    of this project.

    Args:
        by: What a task's need is: `loss`, the running mean of its training loss; or `score`, how
            far its last validation score is below its reference.
        interval: Steps for which the probabilities stay fixed.
        smoothing: Weight of the past in the running mean, m = smoothing * m + (1 - smoothing) *
            loss after each update of the weights; 0 uses the last loss alone.
        reference: For each task by name the score that counts as solved, such as its single-task
            score. Default: 1 for every task. For `by: score` only.
        steps: Steps in an epoch. Default: as many as all tasks have batches.

    Raises:
        UserError: If a number is out of range, `reference` names an unknown task, or is given with
            `by: loss`.
    """

    charts: ClassVar[Mapping[str, str]] = {
        "sampling probability of each task": r"^sampling_probability/"
    }

    def __init__(
        self,
        by: Literal["loss", "score"] = "loss",
        interval: Count = 50,
        smoothing: ShareBelowOne = 0.9,
        reference: dict[str, Finite] | None = None,
        steps: Count | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.by, self.interval, self.smoothing, self.steps = by, interval, smoothing, steps
        self.reference = _checked_reference(reference, by, [task.name for task in self.tasks])
        self.losses: dict[str, Tensor] = {}
        self.scores: dict[str, float] = {}
        count = len(self.groups)
        self._current = Interval(0, 0, proportional([None] * count), np.zeros(count, np.int64))

    @property
    def tasks_per_batch(self) -> Literal["one"]:
        """The task drawn."""
        return "one"

    def order(self, streams: Sequence[Stream]) -> IntervalOrder:
        """Batches of `batch_size` examples, for the current interval."""
        assert self.interval is not None
        steps = self.steps or sum(stream.batches for stream in streams)
        return IntervalOrder(streams, self._current, self.interval, steps, self.seed)

    def on_step_end(self, losses: Mapping[str, Tensor]) -> None:
        """Updates the running mean of each loss, with its mean over the processes."""
        names = [task.name for task in self.tasks if task.name in losses]
        if self.by != "loss" or not names:
            return
        values = mean_over_processes(torch.stack([losses[name] for name in names]))
        for name, loss in zip(names, values, strict=True):
            if name in self.losses:
                before = self.losses[name].to(loss.device)
                self.losses[name] = self.smoothing * before + (1 - self.smoothing) * loss
            else:
                self.losses[name] = loss.clone()

    def on_validation_scores(self, scores: Mapping[str, float]) -> None:
        """Stores the scores."""
        self.scores.update(scores)

    def on_interval_start(self, epoch: int, number: int) -> None:
        """Computes the probabilities, unless a checkpoint of this interval was loaded."""
        before = self._current
        if (before.epoch, before.number) != (epoch, number):
            batches = before.batches + self.order(self.streams()).counts
            probabilities = proportional([self._group_need(group) for group in self.groups])
            self._current = Interval(epoch, number, probabilities, batches)
        self.measured = {
            f"sampling_probability/{self.tasks[index].name}": torch.tensor(probability)
            for group, probability in zip(self.groups, self._current.probabilities, strict=True)
            for index in group
        }

    def _group_need(self, group: Sequence[int]) -> float | None:
        """The need of a label group: the mean over its tasks."""
        needs = [self.need(self.tasks[index].name) for index in group]
        known = [need for need in needs if need is not None]
        return fmean(known) if len(known) == len(needs) else None

    def need(self, task: str) -> float | None:
        """How much a task needs training; None if no loss or score is known yet.

        Raises:
            UserError: If the loss is not finite.
        """
        if self.by == "score":
            gap = self.reference[task] - self.scores[task] if task in self.scores else None
            return gap if gap is None else max(0.0, gap)
        loss = float(self.losses[task]) if task in self.losses else None
        if loss is not None and not np.isfinite(loss):
            raise UserError(
                f"the training loss of task {task!r} is {loss}, so tasks cannot be sampled in "
                "proportion to it; lower --model.lr"
            )
        return loss if loss is None else max(0.0, loss)

    def state_dict(self) -> dict[str, Any]:
        """The losses and scores known, and the current interval."""
        interval = self._current
        return {
            "losses": dict(self.losses),
            "scores": dict(self.scores),
            "interval": (interval.epoch, interval.number),
            "probabilities": interval.probabilities.tolist(),
            "batches": interval.batches.tolist(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues in the interval of the checkpoint."""
        self.losses, self.scores = state_dict["losses"], state_dict["scores"]
        epoch, number = state_dict["interval"]
        self._current = Interval(
            epoch,
            number,
            np.array(state_dict["probabilities"]),
            np.array(state_dict["batches"], np.int64),
        )


def _checked_reference(
    reference: Mapping[str, float] | None, by: str, tasks: Sequence[str]
) -> dict[str, float]:
    """The reference score of every task."""
    if reference and by != "score":
        raise UserError("reference: it is used with --data.by score only; omit it")
    reject_unknown("reference", "task", reference or {}, tasks)
    for task, score in (reference or {}).items():
        if not 0 < score <= 1:
            raise UserError(f"reference: {task}: {score} is not a score above 0 and at most 1")
    return dict.fromkeys(tasks, 1.0) | dict(reference or {})
