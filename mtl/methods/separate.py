"""An encoder for each task."""

from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from mtl.balancing import Balancer, Sum
from mtl.batch import Batch, Segment
from mtl.bounds import ShareBelowOne
from mtl.methods.base import MultiTaskModule
from mtl.modules.backbone import load_config
from mtl.modules.backbone_checks import Pooling
from mtl.modules.encoder import Encoder
from mtl.modules.families import classifier_has_bias
from mtl.modules.heads import task_head
from mtl.modules.per_task import PerTask
from mtl.tasks import (
    Classification,
    MultiLabel,
    MultipleChoice,
    Regression,
    Task,
    TaskKind,
    TokenLabels,
    WordTags,
)


class Separate(MultiTaskModule):
    """An encoder and a head per task, trained in one run without sharing anything.

    Source: the separate encoders of CS224N's SST, Quora and STS; the first row of the tables of
    CA-MTL and PALs ("9x").
    Reads: token ids.  Batches: any scheme.  Per task: everything.
    Relations: single-task runs in parallel, with one training budget and one model selection;
    memory and checkpoint size grow with the number of tasks.

    Args:
        pooling: One vector per example: the first token's state (`cls`), the `mean` over tokens,
            the output of the backbone's own `pooler`, or the `last` token's state. Default: `last`
            for causal models, else `cls`.
        dropout: Dropout probability of the heads.
    """

    encoder_ignores_tasks: ClassVar[bool] = True
    supported_kinds: ClassVar[tuple[type[TaskKind], ...]] = (
        Classification,
        Regression,
        MultiLabel,
        TokenLabels,
        WordTags,
        MultipleChoice,
    )
    # A mean would divide each task's only gradient by the number of tasks present.
    default_balancer: ClassVar[type[Balancer]] = Sum

    def __init__(
        self, pooling: Pooling | None = None, dropout: ShareBelowOne = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.encoders = PerTask(self.tasks, lambda task: Encoder(self.backbone_name, pooling))
        self.word_tasks = {task.name for task in self.tasks if isinstance(task.kind, TokenLabels)}
        config = load_config(self.backbone_name)
        self.width = int(config.hidden_size)

        def make_head(task: Task) -> nn.Module:
            bias = classifier_has_bias(config.model_type) or task.name in self.word_tasks
            size = self.loss_functions[task.name].size
            return task_head(task, self.width, size, dropout, bias)

        self.heads = PerTask(self.tasks, make_head)

    @property
    def backbone(self) -> nn.Module:
        """The encoders."""
        return self.encoders

    def on_fit_start(self) -> None:
        """Logs the number of parameters and the size of a checkpoint."""
        super().on_fit_start()
        count = sum(parameter.numel() for parameter in self.parameters())
        gigabytes = 3 * 4 * count / 1e9  # weights and Adam's two moments, in fp32
        rank_zero_info(
            f"{len(self.tasks)} encoders, {count:,} parameters; "
            f"a checkpoint takes about {gigabytes:.1f} GB"
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Passes each task's examples through the task's encoder and head."""
        logits = {}
        for segment in batch.segments:
            task, examples = segment.task, segment.examples
            if task in self.word_tasks:
                logits[task] = self.heads[task](self._states(batch, segment))
                continue
            if segment.length:
                pooled = self.encoders[task].pooled(batch, examples, segment.length)
            else:  # another process may have all examples of a task
                pooled = torch.zeros(0, self.width, device=batch.task_ids.device)
            logits[task] = self.heads[task](pooled)
        return logits

    @property
    def reads_token_states(self) -> bool:
        """Whether a head reads the states of the tokens."""
        return bool(self.word_tasks)

    def _states(self, batch: Batch, segment: Segment) -> Tensor:
        if not segment.length:
            return torch.zeros(0, 1, self.width, device=batch.task_ids.device)
        return self.encoders[segment.task].states(batch, segment.examples, segment.length)
