"""Logs whether the tasks' gradients of the shared parameters agree or conflict."""

from itertools import combinations
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mtl.balancing.gradient_probe import GradientProbe
from mtl.batch import Batch
from mtl.bounds import Count
from mtl.callbacks.conflict_figure import conflict_figure
from mtl.callbacks.typed_trainer import method_of
from mtl.loggers import log_figure


class GradientConflicts(Callback):
    """Logs how the tasks' gradients differ in direction and in size.

    For each pair of tasks: the cosine between their gradients, and the similarity of their norms
    a and b, 2 a b / (a^2 + b^2) (Yu et al. 2020, definition 2). For all tasks: norms, the share of
    conflicting pairs, and the condition number of the matrix of gradients, the largest by the
    smallest singular value (Senushkin et al. 2023, Aligned-MTL), unless it is infinite.

    Two tasks conflict if the cosine between their gradients is negative. At the end of each epoch,
    the loggers get a heat map of the mean cosines.

    Gradient surgery computes these numbers anyway, and its weights are logged too. Other training
    needs an additional backward pass for each measured step, or one per task if a layer's gradient
    cannot be captured; it computes the same weights as without this callback.

    Args:
        every_n_steps: Number of batches from one measurement to the next.
    """

    def __init__(self, every_n_steps: Count = 50) -> None:
        self.every_n_steps = every_n_steps
        self._probe: GradientProbe | None = None
        self._measures_this_step = False
        # For each group of parameters and each pair of tasks, the cosines measured in this epoch.
        self._cosines: dict[str, dict[tuple[str, str], list[float]]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Captures the gradients of the shared parameters, unless the balancer does so."""
        method = method_of(pl_module)
        self._probe = None if method.balancer.measures_gradients else GradientProbe(method)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Activates the capture for the forward pass of a step that is measured."""
        several_tasks = len(batch.segments) > 1
        self._measures_this_step = batch_idx % self.every_n_steps == 0 and several_tasks
        if self._measures_this_step and self._probe:
            self._probe.start(batch)

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Measures the gradients before the backward pass of the training."""
        if self._measures_this_step and self._probe:
            self._probe.measure(method_of(pl_module).losses)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Deactivates the capture."""
        if self._probe:
            self._probe.stop()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Logs the measurements."""
        method = method_of(pl_module)
        statistics = (self._probe or method.balancer).gradient_statistics
        if not self._measures_this_step or statistics is None:
            return
        # A batch's tasks are in order of length. A pair has one name, whichever task is longer.
        order = [task.name for task in method.tasks]
        tasks, gramians, weights = statistics
        indices = sorted(range(len(tasks)), key=lambda index: order.index(tasks[index]))
        pairs = list(combinations(indices, 2))
        total = torch.stack(list(gramians.values())).sum(0)
        values = summarize(total, tasks, pairs)
        if weights is not None:
            values |= {
                f"conflicts/weight/{task}": weight
                for task, weight in zip(tasks, weights.cpu().tolist(), strict=True)
            }
        # Not with `pl_module.log`, which would log the last values again in every other step.
        for logger in trainer.loggers:
            logger.log_metrics(values, step=max(0, trainer.global_step - 1))
        for group, gramian in {"all": total, **gramians}.items():
            group_cosines = self._cosines.setdefault(group, {})
            cosines = cosine(gramian).cpu()
            for one, two in pairs:
                pair = tasks[one], tasks[two]
                group_cosines.setdefault(pair, []).append(float(cosines[one, two]))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plots the epoch's mean cosines, for all shared parameters and for each layer."""
        cosines, self._cosines = self._cosines, {}
        if not cosines or not trainer.is_global_zero:
            return
        figure = conflict_figure([task.name for task in method_of(pl_module).tasks], cosines)
        for logger in trainer.loggers:
            log_figure(logger, "conflicts", figure, trainer.global_step)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the capture."""
        if self._probe:
            self._probe.end()


def summarize(gramian: Tensor, tasks: list[str], pairs: list[tuple[int, int]]) -> dict[str, float]:
    """The measurements of `GradientConflicts` by their names in logs.

    Args:
        gramian: Inner products of the tasks' gradients, shape (tasks, tasks).
        tasks: Names of the tasks.
        pairs: Pairs of indices of tasks.
    """
    cosines = cosine(gramian).cpu()
    values = {
        f"conflicts/cosine/{tasks[one]}-{tasks[two]}": float(cosines[one, two])
        for one, two in pairs
    }
    conflicts = torch.tensor([cosines[pair] < 0 for pair in pairs]).float()
    values["conflicts/share"] = float(conflicts.mean())
    norms = gramian.diagonal().sqrt().cpu().tolist()
    for one, two in pairs:
        a, b = norms[one], norms[two]
        name = f"conflicts/norm_similarity/{tasks[one]}-{tasks[two]}"
        values[name] = 2 * a * b / (a**2 + b**2) if a or b else 0.0
    eigenvalues = torch.linalg.eigvalsh(gramian.double().cpu())
    if eigenvalues[0] > torch.finfo(gramian.dtype).eps * eigenvalues[-1]:
        values["conflicts/condition_number"] = float((eigenvalues[-1] / eigenvalues[0]).sqrt())
    return values | {
        f"conflicts/norm/{task}": norm for task, norm in zip(tasks, norms, strict=True)
    }


def cosine(gramian: Tensor) -> Tensor:
    """Cosines from inner products, shape (tasks, tasks); 0 if one of the vectors is zero."""
    norms = gramian.diagonal().clamp(min=0).sqrt()
    return gramian / torch.outer(norms, norms).clamp(min=torch.finfo(gramian.dtype).tiny)
