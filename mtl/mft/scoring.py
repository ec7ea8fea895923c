"""Compute prototypical scores with a pretrained encoder."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from mtl.batch import Batch, Segment
from mtl.data import MultiTaskDataModule
from mtl.errors import UserError
from mtl.mft.prototypes import Others, Prototypes, rank_correlation, typicality
from mtl.mft.score_files import TaskScores
from mtl.modules import Encoder
from mtl.modules.backbone_checks import Pooling
from mtl.tasks import Classification, Task, check_tasks


class PrototypeScores(LightningModule):
    """Computes the prototypical scores of training examples in two passes of an encoder.

    The first pass computes the prototypes of all domains and classes, the second one the score of
    each example. Vectors are not stored, so memory grows with the number of examples only by their
    scores.

    Source: Wang et al. 2020 (MFT), section 3.2; specification B1.

    Args:
        tasks: The domains. Their classes correspond by index.
        backbone: Name or directory of the pretrained encoder, or `NAME@REVISION`.
        pooling: How token states become one vector per example: `mean` over the tokens, state of
            the first token (`cls`), or the backbone's own `pooler`.
        alpha: Weight of an example's own domain, from 0 to 1; the other domains have the remaining
            weight.
        others: How the other domains count: cosine with the mean of their prototypes, or mean of
            the cosines.

    Raises:
        UserError: If the domains do not have the same number of classes, or `alpha` is not between
            0 and 1.
    """

    def __init__(
        self,
        tasks: list[Task],
        backbone: str,
        pooling: Pooling = "mean",
        alpha: float = 0.5,
        others: Others = "mean_prototype",
    ) -> None:
        super().__init__()
        self.tasks = check_tasks(tasks)
        self.domains = {task.name: index for index, task in enumerate(self.tasks)}
        classes = _number_of_classes(self.tasks)
        if not 0 <= alpha <= 1:
            raise UserError(f"alpha: {alpha} is not between 0 and 1; give a weight from 0 to 1")
        self.backbone_name, self.pooling = backbone, pooling
        self.alpha, self.others = alpha, others
        self.encoder = Encoder(backbone, pooling)
        self.prototypes = Prototypes(len(self.tasks), classes, self.encoder.width)
        self.means: Tensor | None = None
        self._scored: dict[str, list[tuple[np.ndarray, ...]]] = {}

    def finish_prototypes(self) -> None:
        """Ends the first pass: from now on examples are scored."""
        self.means = self.prototypes.means()

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Adds the examples to the prototypes in the first pass; scores them in the second."""
        vectors = self.encoder(batch).float()
        for segment in batch.segments:
            domain, classes = self.domains[segment.task], segment.labels.cpu()
            # Without fillers, which have no label.
            segment_vectors = vectors[segment.examples][: len(classes)].cpu()
            if self.means is None:
                self.prototypes.add(domain, classes, segment_vectors)
            else:
                scores = typicality(
                    segment_vectors, classes, domain, self.means, self.alpha, self.others
                )
                self._record(batch, segment, scores)

    def scores(self) -> dict[str, TaskScores]:
        """The scores of each task's examples, in the order of the examples."""
        scores = {}
        for name, batches in self._scored.items():
            columns = [np.concatenate(column) for column in zip(*batches, strict=True)]
            order = np.argsort(columns[0])
            scores[name] = TaskScores(*(column[order] for column in columns))
        return scores

    def _record(self, batch: Batch, segment: Segment, scores: Tensor) -> None:
        count = len(segment.labels)
        tokens = batch.tokens["attention_mask"][segment.examples][:count].sum(1).cpu()
        columns = (segment.ids.cpu(), segment.labels.cpu(), tokens, scores)
        self._scored.setdefault(segment.task, []).append(
            tuple(column.numpy() for column in columns)
        )


def scores_and_lengths(scores: Mapping[str, TaskScores]) -> tuple[Tensor, Tensor]:
    """The scores, and the lengths in tokens, of the examples of all tasks."""
    return (
        torch.from_numpy(np.concatenate([task_scores.scores for task_scores in scores.values()])),
        torch.from_numpy(np.concatenate([task_scores.tokens for task_scores in scores.values()])),
    )


def score_manifest(
    module: PrototypeScores,
    data: MultiTaskDataModule,
    weights: str,
    task_scores: Mapping[str, TaskScores],
) -> dict[str, Any]:
    """The manifest of the scores: what was scored, and how.

    Args:
        module: The module that computed the scores.
        data: The data module.
        weights: Digest of the encoder's weights.
        task_scores: The scores by task.
    """
    scores, lengths = scores_and_lengths(task_scores)
    correlation = rank_correlation(scores, lengths)
    tasks = {}
    for index, examples in data.train_splits.items():
        task = data.tasks[index]
        tasks[task.name] = {
            "split": task.splits.train,
            "where": examples.report.where,
            "fingerprint": examples.report.fingerprint,
            "rows": len(task_scores[task.name].ids),
            "classes": task.classes,
        }
    return {
        "backbone": module.backbone_name,
        "weights": weights,
        "pooling": module.pooling,
        "alpha": module.alpha,
        "others": module.others,
        "max_length": data.max_length,
        "rows": len(scores),
        "scores": {
            "min": float(scores.min()),
            "max": float(scores.max()),
            "mean": float(scores.mean()),
            "std": float(scores.std()),
        },
        "correlation_with_length": None if math.isnan(correlation) else correlation,
        "tasks": tasks,
    }


def _number_of_classes(tasks: list[Task]) -> int:
    """The number of classes that all domains have.

    Raises:
        UserError: If a task is not a classification, or the numbers differ.
    """
    for task in tasks:
        if type(task.kind) is not Classification:
            raise UserError(
                f"tasks: prototypes are computed per class, but {task.name!r} is a "
                f"{task.kind.name} task; remove it"
            )
    counts = {task.name: task.kind.output_size for task in tasks}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise UserError(
            f"tasks: all domains need the same number of classes, but {listed}; remove the tasks "
            "that differ"
        )
    return next(iter(counts.values()))
