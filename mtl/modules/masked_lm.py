"""A pretrained language model that computes logits at one position and for chosen words only."""

from typing import Any

import torch
from torch import Tensor, nn

from mtl.batch import Batch, Segment, length_groups
from mtl.errors import UserError
from mtl.modules.backbone import checkpoint_layers, load_language_model
from mtl.modules.bypass import Bypassable
from mtl.modules.encoder import INPUTS
from mtl.modules.task_context import (
    checkpoint_context,
    expand_per_example,
    one_example_per_task,
    task_context,
)


class MaskedLM(Bypassable):
    """A backbone with its language-model head, computed at one position and for few words only.

    The position is that of the mask. Causal models predict the next token, so there it is that of
    the last token of the prompt.

    The decoder, the last layer of the head with one row per word of the vocabulary, is taken out of
    the model. If its weights are tied to the word embeddings, as in most models, they stay tied.

    Args:
        backbone: Name on the hub, a directory, or `NAME@REVISION`.
        new_head: Whether a head that is missing in the checkpoint may be initialized randomly.
        checkpointing: Whether to recompute layers in the backward pass instead of storing their
            activations.
    """

    model: Any

    def __init__(self, backbone: str, new_head: bool = False, checkpointing: bool = False) -> None:
        super().__init__()
        self.model = load_language_model(backbone, new_head)
        if checkpointing:
            checkpoint_layers(self.model, checkpoint_context)
        if hasattr(self.model.config, "use_cache"):
            self.model.config.use_cache = False  # keys and values are for the generation of text
        decoder = self.model.get_output_embeddings()
        words = self.model.get_input_embeddings()
        self.bias: nn.Parameter | None = decoder.bias
        self.weight = None if decoder.weight is words.weight else decoder.weight
        # By name: transformers' own setter would set a bias as well.
        decoder_name = next(n for n, module in self.model.named_modules() if module is decoder)
        self.model.set_submodule(decoder_name, nn.Identity())
        # Mask positions of the current forward pass, for the hook; a bound method, so that a deep
        # copy has its own.
        self._mask_positions: Tensor | None = None
        self.model.base_model.register_forward_hook(self._select_mask_states)
        segment_types = getattr(self.model.config, "type_vocab_size", 0)
        self._inputs = [name for name in INPUTS if name != "token_type_ids" or segment_types > 0]

    def forward(self, batch: Batch) -> Tensor:
        """Computes the input of the decoder at the mask of each example, shape (B, D).

        Raises:
            UserError: If the batch has no mask positions.
        """
        if "mask_position" not in batch.tokens:
            raise UserError(
                "prompt-based fine-tuning reads `mask_position`; add `--data.encoding Prompted`"
            )
        hidden = []
        for examples, length in length_groups(batch):
            tokens = {
                name: batch.tokens[name][examples, :length]
                for name in self._inputs
                if name in batch.tokens
            }
            self._mask_positions = batch.tokens["mask_position"][examples].long()
            with task_context(batch.segments, examples):
                hidden.append(self.model(**tokens).logits[:, 0])
        self._mask_positions = None
        return torch.cat(hidden)

    def scores(self, hidden: Tensor, words: Tensor, batch: Batch, segment: Segment) -> Tensor:
        """Computes the logits of a task's label words for its examples, shape (examples, words).

        Args:
            hidden: Output of `forward`, shape (B, D).
            words: Token ids of the label words, shape (words,).
            batch: The batch.
            segment: The task's segment of the batch.
        """
        with one_example_per_task([segment.task] * len(words)):
            # `forward`, not a call of the module: hooks on it (SMART) expect input embeddings, not
            # the decoder's rows.
            weight = self._tied_rows(words) if self.weight is None else self.weight[words]
        logits = hidden[segment.examples] @ weight.to(hidden.dtype).t()
        if self.bias is None:
            return logits
        with task_context(batch.segments, segment.examples):
            bias = expand_per_example(self.bias, logits.shape[0])[:, words]
        return logits + bias.to(logits.dtype)

    def _tied_rows(self, words: Tensor) -> Tensor:
        """Rows of the word embeddings, which Gemma scales on the way in, but not in its head."""
        embeddings = self.model.get_input_embeddings()
        rows: Tensor = embeddings.forward(words)
        scale = getattr(embeddings, "embed_scale", None)
        return rows if scale is None else rows / scale.to(rows.dtype)

    def _select_mask_states(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Forward hook: keeps only the hidden state at the mask, shape (examples, 1, H)."""
        states = output.last_hidden_state
        examples = torch.arange(states.shape[0], device=states.device)
        output["last_hidden_state"] = states[examples, self._mask_positions].unsqueeze(1)
        return output
