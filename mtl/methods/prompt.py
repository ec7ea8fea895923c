"""Prompt-based fine-tuning of all weights."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl.balancing import Balancer, PerRow
from mtl.batch import Batch
from mtl.errors import UserError
from mtl.methods.base import MultiTaskModule
from mtl.modules.backbone import load_tokenizer
from mtl.modules.losses import Interpolation
from mtl.modules.masked_lm import MaskedLM
from mtl.tasks.prompts import word_ids


class PromptBasedFineTuning(MultiTaskModule):
    """A masked language model fills in the word that stands for a row's class; nothing is new, everything is trained.

    The logits of a task's label words at the mask are its logits. A number lies between two words: the share of the second
    is how far it lies from the lowest to the highest value. Every row of a step counts the same.

    Source: Gao et al. 2021 (LM-BFF), sections 4 and 5; over several tasks, the multi-task stage of specification A.6.
    Reads: prompts (`data.encoding: Prompted`).  Batches: any scheme; published with `LeaveOneOutKShotDataModule`.
    Per task: its template and its words, no parameter.
    Relations: `MultiHead` has new heads in place of words.

    Args:
        new_head: Whether a masked-LM head that the backbone's checkpoint lacks may start at random.
        gradient_checkpointing: Whether layers are computed anew in the backward pass: less memory, a third more time.

    Raises:
        UserError: If a task has no prompt, a label word is not one token, or the backbone has no masked-LM head.
    """

    default_balancer: ClassVar[type[Balancer]] = PerRow

    def __init__(
        self, new_head: bool = False, gradient_checkpointing: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if self.loss_names:
            raise UserError(
                "losses: with prompts a task's loss is that of its label words; leave losses out"
            )
        if missing := [task.name for task in self.tasks if task.prompt is None]:
            raise UserError(
                f"task {missing[0]!r} has no prompt; add `prompt: {{template: ..., words: ...}}` to its file"
            )
        self.encoder = MaskedLM(self.backbone, new_head, gradient_checkpointing)
        tokenizer = load_tokenizer(self.backbone)
        self.words = nn.Module()
        for task in self.tasks:
            self.words.register_buffer(
                task.name, torch.tensor(word_ids(task, tokenizer)), persistent=False
            )
            if task.range:
                self.task_loss[task.name] = Interpolation(*task.range)

    @property
    def encoder_is_task_specific(self) -> bool:
        """Tasks of one prompt that ask for other words share a pass."""
        return False

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One pass of all rows; of each task's rows the logits of its words."""
        hidden = self.encoder(batch)
        words = dict(self.words.named_buffers())
        return {
            segment.task: self.encoder.scores(hidden, words[segment.task], batch, segment)
            for segment in batch.segments
        }
