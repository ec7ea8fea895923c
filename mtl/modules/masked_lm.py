"""A pretrained masked language model, asked at one place and for a few words."""

from typing import Any

import torch
from torch import Tensor, nn

from mtl.batch import Batch, Segment, length_groups
from mtl.errors import UserError
from mtl.modules.backbone import checkpoint_layers, load_masked_lm
from mtl.modules.encoder import INPUTS
from mtl.modules.task_context import (
    checkpoint_context,
    expand_per_example,
    one_example_per_task,
    task_context,
)


class MaskedLM(nn.Module):
    """A backbone with its masked-LM head, computed at the mask's place and for the words asked for alone.

    The head's last layer, one row for each word of the vocabulary, is taken out; where its weights are the word embeddings
    (they are in most models) they stay so.

    Args:
        backbone: Name on the hub, or a directory, or `NAME@REVISION`.
        new_head: Whether a head that the checkpoint lacks may start at random.
        checkpointing: Whether layers are computed anew in the backward pass instead of keeping their activations.
    """

    def __init__(self, backbone: str, new_head: bool = False, checkpointing: bool = False) -> None:
        super().__init__()
        self.model: Any = load_masked_lm(backbone, new_head)
        if checkpointing:
            checkpoint_layers(self.model, checkpoint_context)
        decoder = self.model.get_output_embeddings()
        words = self.model.get_input_embeddings()
        self.bias: nn.Parameter | None = decoder.bias
        self.weight = None if decoder.weight is words.weight else decoder.weight
        # By its name: transformers' own way to set it would set a bias as well.
        place = next(name for name, module in self.model.named_modules() if module is decoder)
        self.model.set_submodule(place, nn.Identity())
        self.model.base_model.register_forward_hook(self._at_the_mask)
        kinds = getattr(self.model.config, "type_vocab_size", 0)
        self._inputs = [name for name in INPUTS if name != "token_type_ids" or kinds > 0]

    def forward(self, batch: Batch) -> Tensor:
        """What the head makes of each row's mask before the vocabulary, (B, D).

        Raises:
            UserError: If the rows have no mask.
        """
        if "mask_position" not in batch.tokens:
            raise UserError(
                "prompt-based fine-tuning reads `mask_position`; add `--data.encoding Prompted`"
            )
        parts = []
        for rows, length in length_groups(batch):
            self._places = batch.tokens["mask_position"][rows].long()
            with task_context(batch.segments, rows):
                tokens = {
                    name: batch.tokens[name][rows, :length]
                    for name in self._inputs
                    if name in batch.tokens
                }
                parts.append(self.model(**tokens).logits[:, 0])
        return torch.cat(parts)

    def scores(self, hidden: Tensor, words: Tensor, batch: Batch, segment: Segment) -> Tensor:
        """Logits of a task's words at its rows' masks, (rows, words).

        Args:
            hidden: What `forward` gave, (B, D).
            words: Token ids, (words,).
            batch: The batch.
            segment: The task's rows in it.
        """
        with one_example_per_task([segment.task] * len(words)):
            # Not by calling the module: what listens to it (SMART) is to hear the inputs' embeddings, not the classifier's rows.
            rows = (
                self.model.get_input_embeddings().forward(words)
                if self.weight is None
                else self.weight[words]
            )
        logits = hidden[segment.examples] @ rows.to(hidden.dtype).t()
        if self.bias is None:
            return logits
        with task_context(batch.segments, segment.examples):
            return logits + expand_per_example(self.bias, logits.shape[0])[:, words].to(
                logits.dtype
            )

    def _at_the_mask(self, module: nn.Module, args: Any, output: Any) -> Any:
        states = output.last_hidden_state
        output["last_hidden_state"] = states[
            torch.arange(states.shape[0], device=states.device), self._places
        ].unsqueeze(1)
        return output
