"""Where the tasks' gradients of what they share point: together, or against each other."""

from itertools import combinations
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from mtl.balancing import Surgery
from mtl.balancing.gradient_probe import GradientProbe
from mtl.batch import Batch


class GradientConflicts(Callback):
    """Logs cosines between the tasks' gradients, the share of conflicting pairs, norms and weights; a heat map each epoch.

    With gradient surgery the numbers are there already. Other training pays a backward pass for each step measured, and
    computes what it would have computed without.

    Args:
        every_n_steps: Batches from one measured to the next.

    A layer of a kind whose gradient cannot be kept by task costs a backward pass for each task, which is said once.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        self.every_n_steps = every_n_steps
        self._measured: GradientProbe | None = None
        self._now = False
        self._cosines: dict[str, dict[tuple[str, str], list[float]]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Taps the layers, where the balancer has not done so."""
        if not isinstance(pl_module.balancer, Surgery):
            self._measured = GradientProbe(pl_module)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Listens to the forward pass of a step that is to be measured."""
        self._now = batch_idx % self.every_n_steps == 0 and len(batch.segments) > 1
        if self._now and self._measured:
            self._measured.start(batch)

    def on_before_backward(self, trainer: Trainer, pl_module: Any, loss: Tensor) -> None:
        """Measures, before the pass that trains."""
        if self._now and self._measured:
            self._measured.measure(pl_module.losses)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens no more."""
        if self._measured:
            self._measured.stop()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Logs."""
        if not self._now:
            return
        found = self._measured or pl_module.balancer
        tasks, gramians = found.tasks, found.gramians
        if not gramians:
            return
        whole = torch.stack(list(gramians.values())).sum(0)
        cosines = cosine(whole)
        # A batch's tasks stand by length; a pair has one name, whichever is the longer today.
        order = [task.name for task in pl_module.tasks]
        places = sorted(range(len(tasks)), key=lambda place: order.index(tasks[place]))
        pairs = list(combinations(places, 2))
        values = cosines.cpu()
        logged = {
            f"conflicts/cosine/{tasks[one]}-{tasks[two]}": values[one, two] for one, two in pairs
        }
        logged["conflicts/share"] = (
            torch.tensor([values[pair] < 0 for pair in pairs]).float().mean()
        )
        logged |= {
            f"conflicts/norm/{task}": norm
            for task, norm in zip(tasks, whole.diagonal().sqrt().cpu(), strict=True)
        }
        if found is pl_module.balancer:
            logged |= {
                f"conflicts/weight/{task}": weight
                for task, weight in zip(tasks, found.weights.cpu(), strict=True)
            }
        # Not through the module, which would log the last values again at every step that is not measured.
        for logger in trainer.loggers:
            logger.log_metrics(
                {name: float(value) for name, value in logged.items()},
                step=max(0, trainer.global_step - 1),
            )
        for group, gramian in {"all": whole, **gramians}.items():
            kept = self._cosines.setdefault(group, {})
            own = cosine(gramian).cpu()
            for one, two in pairs:
                kept.setdefault((tasks[one], tasks[two]), []).append(float(own[one, two]))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Draws the epoch's mean cosines, for all shared parameters and for each layer."""
        cosines, self._cosines = self._cosines, {}
        if cosines:
            _draw(trainer, [task.name for task in pl_module.tasks], cosines)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the layers back."""
        if self._measured:
            self._measured.end()


def cosine(gramian: Tensor) -> Tensor:
    """Cosines between vectors from their inner products, (tasks, tasks); 0 where a vector is."""
    norms = gramian.diagonal().clamp(min=0).sqrt()
    return gramian / torch.outer(norms, norms).clamp(min=torch.finfo(gramian.dtype).tiny)


@rank_zero_only
def _draw(
    trainer: Trainer, tasks: list[str], cosines: dict[str, dict[tuple[str, str], list[float]]]
) -> None:
    from matplotlib.figure import Figure  # slow to import, and not every run draws

    present = [task for task in tasks if any(task in pair for pair in cosines["all"])]
    columns = min(4, len(cosines))
    lines = -(-len(cosines) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.6 * lines + 0.4), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flat
    picture: Any = None
    for axis, (group, pairs) in zip(axes, sorted(cosines.items(), key=_place), strict=False):
        table = torch.full((len(present), len(present)), float("nan"))
        for (one, two), values in pairs.items():
            mean = sum(values) / len(values)
            a, b = present.index(one), present.index(two)
            table[a, b] = table[b, a] = mean
            for row, column in ((a, b), (b, a)):
                axis.text(column, row, f"{mean:.2f}", ha="center", va="center", fontsize=7)
        picture = axis.imshow(table.numpy(), cmap="RdBu", vmin=-1, vmax=1)
        axis.set_title(group, fontsize=9)
        axis.set_xticks(range(len(present)), present, rotation=45, ha="right", fontsize=7)
        axis.set_yticks(range(len(present)), present, fontsize=7)
    for axis in list(axes)[len(cosines) :]:
        axis.set_visible(False)
    figure.colorbar(picture, ax=list(figure.axes), shrink=0.8, label="cosine between gradients")
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure("conflicts", figure, trainer.global_step)


def _place(item: tuple[str, Any]) -> tuple[int, int]:
    """`all` first, then from the bottom of the model to its top."""
    name = item[0]
    order = {"all": 0, "embeddings": 1, "other": 3}
    return order.get(name, 2), int(name.split()[1]) if name.startswith("layer ") else 0
