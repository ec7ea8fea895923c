"""One encoder and one classifier for all tasks, which knows of no tasks."""

from itertools import accumulate
from typing import Any, ClassVar, Literal

from torch import Tensor

from mtl.balancing import Balancer, PerRow
from mtl.batch import Batch
from mtl.errors import UserError
from mtl.methods.base import MultiTaskModule
from mtl.modules import Encoder, LinearHead
from mtl.modules.encoder import Pooling


class Joint(MultiTaskModule):
    """The naive way: one classifier trained on the rows of all tasks as if they were one data set.

    `merged`: tasks share the classes by their places; the first class of each is one and the same (three binary data sets
    concatenated). `union`: a class for each class of each task; training may confuse tasks, testing is restricted to the
    task's own classes. Every row counts the same in the loss, whatever its task.

    Source: the baseline that multi-task learning has to beat; none of the published systems has its code.
    Reads: token ids.  Batches: any scheme; `sequential` is the concatenated data set in random order.
    Per task: nothing.
    Relations: `MultiHead` gives each task a head of its own.

    Args:
        labels: `merged`, `union`, or `auto`: merged where all tasks have as many classes.
        pooling: What a row's vector is: the first token's state, the mean over tokens, or the backbone's own pooler.
        dropout: Share of the vector's entries that the classifier drops in training.

    Raises:
        UserError: If a task is a regression, or `merged` tasks differ in their number of classes.
    """

    takes_regression: ClassVar[bool] = False
    default_balancer: ClassVar[type[Balancer]] = PerRow

    def __init__(
        self,
        labels: Literal["auto", "merged", "union"] = "auto",
        pooling: Pooling = "cls",
        dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.loss_names:
            raise UserError("losses: Joint has one classifier for all tasks; choose MultiHead")
        counts = {task.name: task.outputs for task in self.tasks}
        alike = len(set(counts.values())) == 1
        if labels == "merged" and not alike:
            raise UserError(
                f"labels: merged: the tasks differ in their number of classes, {counts}; use union"
            )
        merged = alike and labels != "union"
        starts = [0] * len(counts) if merged else list(accumulate(counts.values(), initial=0))
        self.starts = dict(zip(counts, starts, strict=False))
        self.encoder = Encoder(self.backbone, pooling)
        self.head = LinearHead(
            self.encoder.width, max(counts.values()) if merged else sum(counts.values()), dropout
        )

    @property
    def encoder_is_task_specific(self) -> bool:
        """It knows of none."""
        return False

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One pass of all rows; of each task's rows the logits of its own classes."""
        logits = self._all(batch)
        return {
            segment.task: logits[segment.examples, self._own(segment.task)]
            for segment in batch.segments
        }

    def training_logits(self, batch: Batch) -> dict[str, Tensor]:
        """The same of all classes, those of other tasks included."""
        logits = self._all(batch)
        return {segment.task: logits[segment.examples] for segment in batch.segments}

    def task_losses(self, batch: Batch) -> dict[str, Tensor]:
        """For each task present the mean loss of its rows among all classes."""
        segments = []
        for segment in batch.segments:
            labels = segment.labels.where(
                segment.labels < 0, segment.labels + self.starts[segment.task]
            )
            segments.append(segment._replace(labels=labels))
        return super().task_losses(batch._replace(segments=tuple(segments)))

    def _all(self, batch: Batch) -> Tensor:
        return self.head(self.encoder(batch))

    def _own(self, task: str) -> slice:
        return slice(self.starts[task], self.starts[task] + self._task(task).outputs)
