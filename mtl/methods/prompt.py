"""Prompt-based fine-tuning of all weights."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl.balancing import Balancer, PerExample
from mtl.batch import Batch
from mtl.errors import UserError
from mtl.methods.base import MultiTaskModule
from mtl.modules.backbone import load_tokenizer
from mtl.modules.masked_lm import MaskedLM
from mtl.modules.prompt_losses import make_prompt_loss
from mtl.tasks import Classification, Regression, TaskKind
from mtl.tasks.prompts import label_word_ids


class PromptBasedFineTuning(MultiTaskModule):
    """A language model predicts the label word at the mask; there are no new parameters.

    The logits of a task are the logits of its label words at the mask. A causal model reads the
    prompt up to the mask, and predicts the label word as the next token. A regression task has two
    label words: the second word's probability is the value's position within the range. All
    examples of a step have the same weight.

    Source: Gao et al. 2021 (LM-BFF), sections 4 and 5; with several tasks, the multi-task stage of
    specification A.6.
    Reads: prompts (`data.encoding: Prompted`).
    Batches: any scheme; published with `LeaveOneOutKShotDataModule`.
    Per task: its template and its label words, no parameters.
    Relations: `MultiHead` has new heads instead of label words.

    Args:
        new_head: Whether a language-model head that the backbone's checkpoint lacks may be
            initialized randomly.
        gradient_checkpointing: Whether activations are recomputed in the backward pass: less
            memory, a third more time.

    Raises:
        UserError: If a task has no prompt, a label word is not one token, or the backbone has no
            language-model head.
    """

    default_balancer: ClassVar[type[Balancer]] = PerExample
    supported_kinds: ClassVar[tuple[type[TaskKind], ...]] = (Classification, Regression)
    # The label words determine the loss.
    supported_losses: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self, new_head: bool = False, gradient_checkpointing: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        for task in self.tasks:
            if task.prompt is None:
                raise UserError(
                    f"task {task.name!r} has no prompt; "
                    "add `prompt: {template: ..., words: ...}` to its file"
                )
        self.encoder = MaskedLM(self.backbone_name, new_head, gradient_checkpointing)
        tokenizer = load_tokenizer(self.backbone_name)
        self.words = nn.Module()
        for task in self.tasks:
            ids = torch.tensor(label_word_ids(task, tokenizer))
            self.words.register_buffer(task.name, ids, persistent=False)
        self.loss_functions = {task.name: make_prompt_loss(task) for task in self.tasks}

    @property
    def encoder_is_task_specific(self) -> bool:
        """False: tasks that have the same prompt but other label words share a forward pass."""
        return False

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One forward pass of all examples, then the logits of each task's label words."""
        hidden = self.encoder(batch)
        words = dict(self.words.named_buffers())
        return {
            segment.task: self.encoder.scores(hidden, words[segment.task], batch, segment)
            for segment in batch.segments
        }
