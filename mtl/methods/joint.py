"""One encoder and one classifier for all tasks."""

from itertools import accumulate
from typing import Any, ClassVar, Literal

from torch import Tensor

from mtl.balancing import Balancer, PerExample
from mtl.batch import Batch
from mtl.bounds import ShareBelowOne
from mtl.errors import UserError
from mtl.methods.base import MultiTaskModule
from mtl.modules.backbone_checks import Pooling
from mtl.modules.encoder import Encoder
from mtl.modules.heads import LinearHead
from mtl.tasks import Classification, TaskKind


class Joint(MultiTaskModule):
    """The naive baseline: one classifier, trained on all tasks as if they were one data set.

    `merged`: tasks share the classes by index; the first class of every task is the same (three
    binary data sets, concatenated). `union`: one class per class of each task; in training tasks
    compete with each other, predictions are restricted to the task's own classes. All examples have
    the same weight in the loss, whatever their task.

    Source: the baseline for multi-task learning; none of the published systems has code for it.
    Reads: token ids.
    Batches: any scheme; `sequential` is the concatenated data set in random order.
    Per task: nothing.
    Relations: `MultiHead` has a head per task.

    Args:
        labels: `merged`, `union`, or `auto`: merged if all tasks have the same number of classes.
        pooling: One vector per example: the first token's state (`cls`), the `mean` over tokens,
            the output of the backbone's own `pooler`, or the `last` token's state. Default: `last`
            for causal models, else `cls`.
        dropout: Dropout probability of the classifier.

    Raises:
        UserError: If a task is a regression task, or `merged` tasks differ in their number of
            classes.
    """

    encoder_ignores_tasks: ClassVar[bool] = True
    supported_kinds: ClassVar[tuple[type[TaskKind], ...]] = (Classification,)
    # The classifier is shared by all tasks, and its loss is cross-entropy.
    supported_losses: ClassVar[frozenset[str]] = frozenset()
    default_balancer: ClassVar[type[Balancer]] = PerExample

    def __init__(
        self,
        labels: Literal["auto", "merged", "union"] = "auto",
        pooling: Pooling | None = None,
        dropout: ShareBelowOne = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        counts = {task.name: task.kind.output_size for task in self.tasks}
        same_count = len(set(counts.values())) == 1
        if labels == "merged" and not same_count:
            raise UserError(
                f"labels: merged: the tasks differ in their number of classes, {counts}; use union"
            )
        merged = same_count and labels != "union"
        ends = list(accumulate(counts.values(), initial=0))
        starts = [0] * len(counts) if merged else ends[:-1]
        self.classes = {
            task: slice(start, start + counts[task])
            for task, start in zip(counts, starts, strict=True)
        }
        self.encoder = Encoder(self.backbone_name, pooling)
        classes = max(counts.values()) if merged else sum(counts.values())
        self.head = LinearHead(
            self.encoder.width, classes, dropout, bias=self.encoder.classifier_has_bias
        )

    @property
    def encoder_is_task_specific(self) -> bool:
        """False: nothing depends on the task."""
        return False

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One forward pass of all examples, then the logits of each task's own classes."""
        logits = self._all_logits(batch)
        return {
            segment.task: logits[segment.examples, self.classes[segment.task]]
            for segment in batch.segments
        }

    def training_logits(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of all classes, those of other tasks included, of each task present."""
        logits = self._all_logits(batch)
        return {segment.task: logits[segment.examples] for segment in batch.segments}

    def task_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Mean cross-entropy of each task present, over the classes of all tasks."""
        segments = []
        for segment in batch.segments:
            shifted = segment.labels + self.classes[segment.task].start
            labels = segment.labels.where(segment.labels < 0, shifted)
            segments.append(segment._replace(labels=labels))
        return super().task_losses(batch._replace(segments=tuple(segments)))

    def _all_logits(self, batch: Batch) -> Tensor:
        return self.head(self.encoder(batch))
