"""The examples with the most uncertain predictions, among candidates of every task."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mtl.batch import Batch, Segment, fitted_labels, select_examples
from mtl.bounds import NonNegative, Positive
from mtl.data.base import MultiTaskDataModule
from mtl.data.order import Stream
from mtl.data.round_robin import RoundRobinOrder
from mtl.errors import UserError, reject_unknown
from mtl.modules.eval_mode import eval_mode
from mtl.tasks import Task
from mtl.training.seeding import seed_step

# The release adds this to the largest entropy, so that a task with one class does not divide by 0.
EPSILON = 1e-5


class UncertaintyDataModule(MultiTaskDataModule):
    """MT-Uncertainty: selects the most uncertain examples among the candidates of every task.

    The candidates of a step are up to `batch_size` examples of each task, the tasks' next batches;
    a task that runs out starts again, reshuffled. The model being trained scores them in every
    step, without gradient, and `batch_size` of them are trained on. Each process scores its own
    candidates and selects its share.

    Source: Pilault et al. 2021, section 2.3 and algorithm 1, as released.

    Args:
        score: `code`: an example's entropy over the largest possible one of its task, times the
            ratio of the task's mean to the largest mean, as in the authors' release. `paper`: the
            entropy over the largest mean, a constant that changes no choice, so that a task that is
            uncertain on average is not preferred.
        dropout: Whether dropout is on while candidates are scored, as in the release in most steps.
        regression: For each regression task, which has no entropy: the task whose examples' scores
            are used for its examples, one by one, or a score for all of its examples. Default:
            `{stsb: mrpc}` if both are among the tasks.
        share: Steps in an epoch, as a share of the batches of the largest task times the number of
            tasks (`--percent_of_max_data_size`).

    Raises:
        UserError: If a regression task has no score, or `share` is not above 0.
    """

    # An example of several tasks would be scored several times.
    draws_label_groups = False
    charts: ClassVar[Mapping[str, str]] = {
        "mean uncertainty of each task's candidates": r"^uncertainty/"
    }

    def __init__(
        self,
        score: Literal["code", "paper"] = "code",
        dropout: bool = False,
        regression: dict[str, NonNegative | str] | None = None,
        share: Positive = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.score, self.dropout, self.share = score, dropout, share
        self.regression = _checked_policies(regression, self.tasks)

    @property
    def tasks_per_batch(self) -> Literal["some"]:
        """The tasks of the examples selected."""
        return "some"

    def order(self, streams: Sequence[Stream]) -> RoundRobinOrder:
        """`batch_size` candidates of every task in each step."""
        rounds = int(self.share * max(stream.batches for stream in streams) * len(streams))
        return RoundRobinOrder(streams, max(1, rounds), mixed=True)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Selects the most uncertain candidates of a training step.

        Called on the device, after the update of the step before.
        """
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
            segment.task: _labelled_outputs(segment, outputs[segment.task])
            for segment in batch.segments
            if len(segment.labels) and segment.task not in self.regression
        }
        scores, means = mt_uncertainty(probabilities, self.score)
        self.measured = {f"uncertainty/{task}": mean for task, mean in means.items()}
        count = max(1, len(range(trainer.global_rank, self.batch_size, trainer.world_size)))
        return select_examples(batch, self._most_uncertain(batch, scores, count))

    def _most_uncertain(self, batch: Batch, scores: Mapping[str, Tensor], count: int) -> Tensor:
        """Indices of the examples with the highest scores, at most `count`, or of a lone filler."""
        device = batch.task_ids.device
        task_scores, indices = [], []
        for segment in batch.segments:
            size, start = len(segment.labels), segment.examples.start
            if size:
                task_scores.append(self._segment_scores(segment.task, size, scores, device))
                indices.append(torch.arange(start, start + size, device=device))
        if not indices:
            return torch.zeros(1, dtype=torch.long, device=device)
        joined = torch.cat(task_scores)
        return torch.cat(indices)[joined.topk(min(count, len(joined))).indices]

    def _segment_scores(
        self, task: str, size: int, scores: Mapping[str, Tensor], device: torch.device
    ) -> Tensor:
        policy = self.regression.get(task)
        if policy is None:
            return scores[task]
        if isinstance(policy, str):
            # If the other task has no candidate in this process, the score is 0.
            lent = scores.get(policy, torch.zeros(1, device=device))
            return lent[torch.arange(size, device=device) % len(lent)]
        return torch.full((size,), float(policy), device=device)


def mt_uncertainty(
    probabilities: Mapping[str, Tensor], score: Literal["code", "paper"] = "code"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """How uncertain each example is, in [0, 1], compared with the examples of the other tasks.

    An example's entropy, as a share of the largest that its number of classes allows, is divided by
    the largest mean of the tasks. The authors' release (`code`) also multiplies it by the task's
    own mean.

    Source: Pilault et al. 2021, section 2.3.

    Args:
        probabilities: For each task the class probabilities of its examples, shape (examples,
            classes), at least one example. Of token labels: shape (examples, length, tags), zeros
            for tokens that do not count; an example's entropy is the mean over its tokens.
        score: `code` or `paper`.

    Returns:
        For each task the scores of its examples, shape (examples,), and the mean entropy of its
        examples as a share of the largest possible, a scalar.

    Raises:
        ValueError: If a task has one class: it has no entropy.
    """
    if single := [task for task, values in probabilities.items() if values.shape[-1] < 2]:
        raise ValueError(f"{single} have one class: no entropy")
    entropies = {
        task: _mean_over_tokens(torch.special.entr(values).sum(-1), values)
        / (math.log(values.shape[-1]) + EPSILON)
        for task, values in probabilities.items()
    }
    means = {task: values.mean() for task, values in entropies.items()}
    if not means:
        return {}, {}
    largest = torch.stack(list(means.values())).max().clamp(min=torch.finfo(torch.float).tiny)
    factors = {
        task: mean / largest if score == "code" else 1 / largest for task, mean in means.items()
    }
    return {task: values * factors[task] for task, values in entropies.items()}, means


def _labelled_outputs(segment: Segment, outputs: Tensor) -> Tensor:
    """Outputs without those of fillers; zeros for tokens without label."""
    outputs = outputs[: len(segment.labels)]
    if outputs.ndim == 2:
        return outputs
    labels = fitted_labels(segment.labels, outputs.shape[1])
    return outputs.where(labels.unsqueeze(-1) >= 0, 0.0)


def _mean_over_tokens(entropies: Tensor, probabilities: Tensor) -> Tensor:
    """The entropy of each example, (examples,), from those of examples or of their tokens."""
    if entropies.ndim == 1:
        return entropies
    return entropies.sum(-1) / probabilities.any(-1).sum(-1).clamp(min=1)


def _checked_policies(
    regression: Mapping[str, float | str] | None, tasks: Sequence[Task]
) -> dict[str, float | str]:
    """For each task without class probabilities the task that lends its scores, or one score."""
    if choices := [task.name for task in tasks if task.choices]:
        raise UserError(
            f"uncertainty sampling: {choices[0]!r} is a multiple choice, whose examples have "
            "several sequences; remove the task, or choose another scheme"
        )
    kinds = {task.name: task.kind.name for task in tasks}
    classified = [task.name for task in tasks if task.kind.has_class_probabilities]
    others = [task.name for task in tasks if not task.kind.has_class_probabilities]
    policies: dict[str, float | str] = {}
    if "stsb" in others and "mrpc" in classified:
        policies["stsb"] = "mrpc"
    policies |= regression or {}
    reject_unknown("regression", "regression task", policies, others)
    lenders = [policy for policy in policies.values() if isinstance(policy, str)]
    reject_unknown("regression", "classification task", lenders, classified)
    if missing := [name for name in others if name not in policies]:
        name = missing[0]
        remedy = f"give its examples one score, --data.regression '{{{name}: 0.5}}'"
        if classified:
            lend = f"--data.regression '{{{name}: {classified[0]}}}'"
            remedy = f"use the scores of another task, {lend}, or {remedy}"
        raise UserError(
            f"uncertainty sampling: {name!r} is a {kinds[name]} task, which has no entropy; "
            f"{remedy}"
        )
    return policies
