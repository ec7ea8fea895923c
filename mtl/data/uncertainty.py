"""The rows that the model is least sure of, among candidates of every task."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from mtl.batch import Batch, select_examples
from mtl.data.base import MultiTaskDataModule
from mtl.data.order import Stream
from mtl.data.round_robin import RoundRobinOrder
from mtl.errors import UserError, did_you_mean
from mtl.modules.eval_mode import eval_mode
from mtl.tasks import Task
from mtl.training.seeding import seed_step

# Added to the largest entropy by the release, so that a task with one class divides by something.
TINY = 1e-5


class UncertaintyDataModule(MultiTaskDataModule):
    """MT-Uncertainty: of up to `batch_size` candidates of each task, the `batch_size` that the model is least sure of.

    The candidates are the tasks' next batches in turn; a task that runs out starts again, reshuffled. The model being
    trained scores them in every step, without gradient. Each process scores candidates of its own and keeps its share.

    Source: Pilault et al. 2021, section 2.3 and algorithm 1, as released.

    Args:
        score: `code`: a row's entropy over its task's largest possible one, times the task's mean share of the largest
            mean, as the authors' release has it. `paper`: over the largest mean, a constant that changes no choice, so
            that a task which is uncertain on the whole is not preferred.
        dropout: Whether dropout is on while candidates are scored, as in the release in most steps.
        regression: For each regression task, which has no entropy: the task whose rows' scores its rows borrow one by
            one, or a score for all of its rows. `{stsb: mrpc}` where absent and both are among the tasks.
        share: Steps in an epoch, as a share of the batches of the largest task times the number of tasks
            (`--percent_of_max_data_size`).

    Raises:
        UserError: If a regression task has no score to borrow, or `share` is not above 0.
    """

    def __init__(
        self,
        score: Literal["code", "paper"] = "code",
        dropout: bool = False,
        regression: dict[str, float | str] | None = None,
        share: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if share <= 0:
            raise UserError(
                f"share {share}: give more than 0; 1 is as many steps as the release's epoch has"
            )
        self.score, self.dropout, self.share = score, dropout, share
        self.regression = _checked(regression, self.tasks)

    @property
    def tasks_per_batch(self) -> Literal["some"]:
        """The tasks of the rows chosen."""
        return "some"

    def order(self, streams: Sequence[Stream]) -> RoundRobinOrder:
        """`batch_size` candidates of every task in each step."""
        rounds = int(self.share * max(stream.batches for stream in streams) * len(streams))
        return RoundRobinOrder(streams, max(1, rounds), mixed=True)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """The most uncertain of a training step's candidates; called on the device, after the last step's update."""
        trainer = self.trainer
        if trainer is None or not trainer.training:
            return batch
        module: Any = trainer.lightning_module
        if self.dropout:  # the step itself is seeded only after this hook
            seed_step(self.seed, *self._position(), trainer.world_size + trainer.global_rank)
        mode = nullcontext() if self.dropout else eval_mode(module)
        with torch.no_grad(), mode, trainer.precision_plugin.forward_context():
            outputs = module.predict_proba(batch)
        probabilities = {
            segment.task: outputs[segment.task][: len(segment.labels)]
            for segment in batch.segments
            if len(segment.labels) and segment.task not in self.regression
        }
        scores, means = mt_uncertainty(probabilities, self.score)
        self.measured = {f"uncertainty/{task}": mean for task, mean in means.items()}
        kept = max(1, len(range(trainer.global_rank, self.batch_size, trainer.world_size)))
        return select_examples(batch, self._best(batch, scores, kept))

    def _best(self, batch: Batch, scores: Mapping[str, Tensor], kept: int) -> Tensor:
        """Places of the rows with the highest scores, at most `kept`; a lone filler stays."""
        parts, places = [], []
        for segment in batch.segments:
            rows, policy = len(segment.labels), self.regression.get(segment.task)
            if isinstance(policy, str):
                lent = scores.get(
                    policy, batch.task_ids.new_zeros(1, dtype=torch.float)
                )  # no row to borrow from here
                parts.append(lent[torch.arange(rows, device=lent.device) % len(lent)])
            elif policy is not None:
                parts.append(torch.full((rows,), float(policy), device=batch.task_ids.device))
            elif rows:
                parts.append(scores[segment.task])
            places.append(
                torch.arange(
                    segment.examples.start,
                    segment.examples.start + rows,
                    device=batch.task_ids.device,
                )
            )
        if not any(map(len, parts)):
            return torch.zeros(1, dtype=torch.long, device=batch.task_ids.device)
        joined = torch.cat(parts)
        return torch.cat(places)[joined.topk(min(kept, len(joined))).indices]


def mt_uncertainty(
    probabilities: Mapping[str, Tensor], score: Literal["code", "paper"] = "code"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """How uncertain each row is, in [0, 1], compared with the other tasks' rows.

    Source: Pilault et al. 2021, section 2.3: entropy over the largest that the number of classes allows, over the largest
    mean of the tasks. The authors' release multiplies by the task's own mean beside.

    Args:
        probabilities: For each task its rows' class probabilities, shape (rows, classes), at least one row.
        score: `code` or `paper`.

    Returns:
        For each task its rows' scores, shape (rows,), and its rows' mean entropy, as a share of the largest possible.

    Raises:
        ValueError: If a task has one class: it has no entropy.
    """
    if single := [task for task, rows in probabilities.items() if rows.shape[1] < 2]:
        raise ValueError(f"{single} have one class: no entropy")
    entropies = {
        task: torch.special.entr(rows).sum(-1) / (math.log(rows.shape[1]) + TINY)
        for task, rows in probabilities.items()
    }
    means = {task: values.mean() for task, values in entropies.items()}
    if not means:
        return {}, {}
    largest = torch.stack(list(means.values())).max().clamp(min=torch.finfo(torch.float).tiny)
    factors = {
        task: mean / largest if score == "code" else 1 / largest for task, mean in means.items()
    }
    return {task: values * factors[task] for task, values in entropies.items()}, means


def _checked(
    regression: Mapping[str, float | str] | None, tasks: Sequence[Task]
) -> dict[str, float | str]:
    """The policy for each regression task."""
    classified = [task.name for task in tasks if not task.regression]
    others = [task.name for task in tasks if task.regression]
    policies: dict[str, float | str] = (
        {"stsb": "mrpc"} if "stsb" in others and "mrpc" in classified else {}
    )
    policies |= regression or {}
    for name, policy in policies.items():
        if name not in others:
            raise UserError(
                f"regression: {name!r} is none of the regression tasks {others}.{did_you_mean(name, others)}"
            )
        if isinstance(policy, str) and policy not in classified:
            near = did_you_mean(policy, classified)
            raise UserError(
                f"regression: {policy!r} is none of the classification tasks {classified}.{near}"
            )
    if missing := [name for name in others if name not in policies]:
        name = missing[0]
        borrow = (
            f"say whose scores its rows borrow, --data.regression '{{{name}: {classified[0]}}}', or "
            if classified
            else ""
        )
        raise UserError(
            f"uncertainty sampling: task {name!r} is a regression, which has no entropy: {borrow}"
            f"give its rows one score, --data.regression '{{{name}: 0.5}}'"
        )
    return policies
