"""A shared encoder with a head for each task."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from mtl.batch import Batch, Segment, length_groups
from mtl.bounds import ShareBelowOne
from mtl.errors import UserError, reject_unknown
from mtl.methods.base import MultiTaskModule
from mtl.modules.backbone import load_tokenizer
from mtl.modules.backbone_checks import Pooling
from mtl.modules.encoder import Encoder
from mtl.modules.heads import HeadFactory, HeadShape, Linear, choose_head
from mtl.modules.pair_heads import text_masks
from mtl.modules.per_task import PerTask
from mtl.modules.task_context import task_context
from mtl.modules.task_losses import LOSSES
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

DEFAULT_DROPOUT = 0.1


class MultiHead(MultiTaskModule):
    """One encoder for all tasks and one head per task: hard parameter sharing; MT-DNN and MT-BERT.

    Source: Caruana 1997; with BERT, Liu et al. 2019 (MT-DNN), section 3.
    Reads: token ids.  Batches: any scheme; published with proportional sampling.
    Per task: a head; all else is shared.
    Relations: with a single task it is ordinary fine-tuning, the baseline of every comparison.

    Args:
        pooling: One vector per example: the first token's state (`cls`), the `mean` over tokens,
            the output of the backbone's own `pooler`, or the `last` token's state. Default: `last`
            for causal models, else `cls`.
        dropout: Dropout probability of the heads; one for all, or by task (default: 0.1).
        head: Head of the tasks; default: `Linear`.
        pair_head: Head of pair classification, such as `SAN` or `MTBertSAN`; default: as `head`.
        gradient_checkpointing: Whether activations are recomputed in the backward pass: less
            memory, a third more time.

    Raises:
        UserError: If `dropout` names an unknown task, or a head cannot predict a task.
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
    supported_losses: ClassVar[frozenset[str]] = frozenset(LOSSES)

    def __init__(
        self,
        pooling: Pooling | None = None,
        dropout: ShareBelowOne | dict[str, ShareBelowOne] = DEFAULT_DROPOUT,
        head: HeadFactory | None = None,
        pair_head: HeadFactory | None = None,
        gradient_checkpointing: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # An object made in Python is not a plain value; a checkpoint stores how to make it again.
        self.hparams.update(head=head and head.config(), pair_head=pair_head and pair_head.config())
        dropout_by_task = _by_task(dropout, [task.name for task in self.tasks])
        self.encoder = Encoder(self.backbone_name, pooling, checkpointing=gradient_checkpointing)
        default_head = head or Linear()
        factories = {
            task.name: choose_head(
                task, self.loss_functions[task.name], default_head, pair_head or default_head
            )
            for task in self.tasks
        }

        def make_head(task: Task) -> nn.Module:
            shape = HeadShape(
                width=self.encoder.width,
                outputs=self.loss_functions[task.name].size,
                dropout=dropout_by_task[task.name],
                encoder_layers=self.encoder.layer_count,
                bias=self.encoder.classifier_has_bias or isinstance(task.kind, TokenLabels),
            )
            return factories[task.name].make(task, shape)

        self.heads: PerTask[nn.Module] = PerTask(self.tasks, make_head)
        self.token_tasks = {
            name: factory.reads for name, factory in factories.items() if factory.reads != "pooled"
        }
        if {"texts", "segments"} & set(self.token_tasks.values()):
            separator = load_tokenizer(self.backbone_name).sep_token_id
            if separator is None:
                raise UserError(
                    f"--backbone {self.backbone_name}: its tokenizer has no separator token, which "
                    "heads that read tokens need; choose another backbone, or heads such as Linear"
                )
            self.separator = int(separator)

    @property
    def reads_token_states(self) -> bool:
        """Whether a head reads the states of the tokens."""
        return bool(self.token_tasks)

    @property
    def encoder_is_task_specific(self) -> bool:
        """Whether a subclass has added task-specific modules other than the heads."""
        modules = [module for name, module in self.named_modules() if name.split(".")[0] != "heads"]
        return any(getattr(module, "task_specific", False) for module in modules)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One forward pass of all examples through the encoder, then each task's head."""
        if not self.token_tasks:
            return self.heads(self.encoder(batch), batch.segments)
        logits: dict[str, Tensor] = {}
        for examples, length in length_groups(batch):
            states = self.encoder.states(batch, examples, length)
            for segment in batch.segments:
                start = segment.examples.start - examples.start
                stop = segment.examples.stop - examples.start
                inside = start >= 0 and segment.examples.stop <= examples.stop
                if inside and segment.task not in logits:
                    with task_context(batch.segments, segment.examples):
                        logits[segment.task] = self._apply_head(batch, segment, states[start:stop])
        return logits

    def _apply_head(self, batch: Batch, segment: Segment, states: Tensor) -> Tensor:
        """Logits of one task's examples from their states, shape (examples, length, H)."""
        task, examples = segment.task, segment.examples
        tokens = {
            name: batch.tokens[name][examples, : states.shape[1]]
            for name in ("input_ids", "attention_mask")
        }
        if task not in self.token_tasks:
            return self.heads[task](self.encoder.pool(states, tokens["attention_mask"]))
        if self.token_tasks[task] == "tokens":
            return self.heads[task](states)
        with_special = self.token_tasks[task] == "segments"
        masks = text_masks(
            tokens["input_ids"], tokens["attention_mask"], self.separator, with_special
        )
        return self.heads[task](states, *masks)


def _by_task(dropout: float | Mapping[str, float], names: list[str]) -> dict[str, float]:
    if not isinstance(dropout, Mapping):
        return dict.fromkeys(names, dropout)
    reject_unknown("dropout", "task", dropout, names)
    return {name: dropout.get(name, DEFAULT_DROPOUT) for name in names}
