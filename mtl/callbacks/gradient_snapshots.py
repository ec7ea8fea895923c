"""Stores projected gradients of single examples during the training of all tasks."""

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from mtl.balancing.shared_parameters import shared_parameters
from mtl.batch import collate, loss_terms
from mtl.bounds import Count, Share
from mtl.callbacks.typed_trainer import datamodule_of, is_dry_run, method_of
from mtl.data.encoded_split import EncodedSplit
from mtl.data.order import Draw
from mtl.errors import UserError
from mtl.grouping.linearized import Examples, Snapshot, write_snapshot
from mtl.grouping.projection import Projection, margin, stacked
from mtl.grouping.run_files import FOLDER
from mtl.modules.eval_mode import eval_mode
from mtl.modules.families import in_embeddings
from mtl.modules.task_context import task_context
from mtl.training.run_folder import atomic_output


class GradientSnapshots(Callback):
    """Stores gradients along a joint run, from which `mtl group` estimates losses of groups.

    At given shares of the training, for some training and validation examples of each task: the
    margin of the example's loss, and the margin's gradient for the shared parameters without
    embeddings, projected at random. Dropout and mixed precision are off. Each example takes a
    backward pass of its own. The training is the same as without it.

    At the start the heads are random; at the end a small training set is fitted exactly, so that
    its gradients say nothing of groups.

    Args:
        at: Shares of the training, in (0, 1].
        examples: Examples of each task and split, chosen at random; all if there are fewer.
        dimension: Dimension of the projected gradients.
    """

    def __init__(
        self,
        at: tuple[Share, ...] = (0.25, 0.5, 0.75),
        examples: Count = 64,
        dimension: Count = 200,
    ) -> None:
        self.at, self.examples, self.dimension = sorted(at), examples, dimension
        self._taken = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses several processes.

        Raises:
            UserError: If there are several, or no shared parameters.
        """
        if trainer.world_size > 1:
            raise UserError("GradientSnapshots works in one process; give --trainer.devices 1")
        shared_parameters(pl_module)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Takes a snapshot if one is due."""
        progress = trainer.global_step / float(trainer.estimated_stepping_batches)
        due = sum(share <= progress for share in self.at)
        if due > self._taken and not is_dry_run(trainer):
            folder = Path(trainer.default_root_dir) / FOLDER
            with atomic_output(folder / f"gradients-{trainer.global_step:06d}.npz") as temporary:
                write_snapshot(temporary, self._snapshot(trainer, pl_module))
        self._taken = due

    def state_dict(self) -> dict[str, Any]:
        """The number of snapshots so far."""
        return {"taken": self._taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the number of snapshots."""
        self._taken = state_dict["taken"]

    def _snapshot(self, trainer: Trainer, module: LightningModule) -> Snapshot:
        data, shared = datamodule_of(trainer), shared_parameters(module)
        validation: dict[int, EncodedSplit] = {}
        for evaluation, split in zip(data.evaluations("fit"), data.eval_splits, strict=True):
            validation.setdefault(evaluation.task, split)
        # The authors of GradEx leave out embeddings too: most of their entries are zero.
        parameters = {name: each for name, each in shared.items() if not in_embeddings(name)}
        projection = Projection(parameters, self.dimension, data.seed)
        with eval_mode(module):
            train, validated = (
                {
                    data.tasks[index].name: self._examples(
                        trainer, module, projection, index, splits[index]
                    )
                    for index in data.train_splits
                    if index in validation
                }
                for splits in (data.train_splits, validation)
            )
        return Snapshot(train, validated)

    def _examples(
        self,
        trainer: Trainer,
        module: LightningModule,
        projection: Projection,
        index: int,
        split: EncodedSplit,
    ) -> Examples:
        """Margins and projected gradients of the chosen examples of one task."""
        method, data = method_of(module), datamodule_of(trainer)
        names = [task.name for task in data.tasks]
        labelled = np.flatnonzero(loss_terms(split.labels) > 0)
        count = min(self.examples, len(labelled))
        chosen = np.random.default_rng([data.seed, index]).choice(labelled, count, replace=False)
        margins, gradients = [], []
        for example in chosen:
            part = split.take(Draw(index, np.array([example])), 1)
            batch = trainer.strategy.batch_to_device(collate([part], names, data.padding))
            [segment] = batch.segments
            with task_context(batch.segments, slice(0, 1)):
                logits = method.training_logits(batch)[segment.task]
            [loss] = method.example_losses(segment, logits) / loss_terms(segment.labels)
            value = margin(loss)
            gradients.append(projection.gradient(value))
            margins.append(value.detach())
        return stacked(margins, gradients)
