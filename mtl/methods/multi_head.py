"""A shared encoder with a head for each task."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

from torch import Tensor, nn

from mtl.batch import Batch, length_groups
from mtl.errors import UserError, did_you_mean
from mtl.methods.base import MultiTaskModule
from mtl.modules import SAN, CosineHead, Encoder, LinearHead, MTBertSAN, PerTask
from mtl.modules.backbone import load_tokenizer
from mtl.modules.encoder import Pooling
from mtl.modules.task_context import task_context
from mtl.tasks import Task

USUAL_DROPOUT = 0.1
# Heads that read the states of a pair's two texts, rather than one vector a row.
READING_TEXTS_APART = (SAN, CosineHead)


class MultiHead(MultiTaskModule):
    """One encoder for all tasks, one head for each: hard parameter sharing; MT-DNN and MT-BERT.

    Source: Caruana 1997; with BERT, Liu et al. 2019 (MT-DNN), section 3.
    Reads: token ids.  Batches: any scheme; published with proportional sampling.  Per task: a head; all else is shared.
    Relations: with one task in the list it is ordinary single-task fine-tuning, the baseline of every comparison.

    Args:
        pooling: What a row's vector is: the first token's state, the mean over tokens, or the backbone's own pooler.
        dropout: Share of the vector's entries that a head drops in training; one for all, or by the tasks' names (0.1 where
            a name is missing).
        heads: Heads of pair classification: `linear`, as all others; `san`: MT-DNN's stochastic answer network; `san_mt_bert`:
            MT-BERT's, which differs in details.
        san_steps: Steps of reasoning; 5 for `san`, the number of the encoder's layers for `san_mt_bert`, where absent.
        hidden_layers: Hidden layers of a linear head, each with dropout before and ReLU after; 2 in the CS224N project.
        gradient_checkpointing: Whether layers are computed anew in the backward pass: less memory, a third more time.

    Raises:
        UserError: If `dropout` names no task.
    """

    def __init__(
        self,
        pooling: Pooling = "cls",
        dropout: float | dict[str, float] = USUAL_DROPOUT,
        heads: Literal["linear", "san", "san_mt_bert"] = "linear",
        san_steps: int | None = None,
        hidden_layers: int = 0,
        gradient_checkpointing: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        shares = _by_task(dropout, [task.name for task in self.tasks])
        self.encoder = encoder = Encoder(
            self.backbone, pooling, checkpointing=gradient_checkpointing
        )
        steps = san_steps or (
            int(encoder.backbone.config.num_hidden_layers) if heads == "san_mt_bert" else 5
        )

        def head(task: Task) -> nn.Module:
            size, share = self.task_loss[task.name].size, shares[task.name]
            if self.loss_names.get(task.name) == "cosine":
                return CosineHead(*cast(tuple[float, float], task.range))
            if heads == "linear" or task.regression or not task.pair:
                return LinearHead(encoder.width, size, share, hidden_layers)
            network = MTBertSAN if heads == "san_mt_bert" else SAN
            return network(encoder.width, size, steps, share)

        self.heads = PerTask(self.tasks, head)
        # What parts the texts of a pair, for the heads that read them apart.
        apart = any(isinstance(head, READING_TEXTS_APART) for head in self.heads.values())
        self.separator = int(load_tokenizer(self.backbone).sep_token_id) if apart else -1

    takes_cosine: ClassVar[bool] = True

    @property
    def reads_token_states(self) -> bool:
        """Heads that read the states of two texts do."""
        return self.separator >= 0

    @property
    def encoder_is_task_specific(self) -> bool:
        """Not by itself; what builds on it may have parts of tasks beside the heads."""
        parts = [part for name, part in self.named_modules() if name.partition(".")[0] != "heads"]
        return any(getattr(part, "task_specific", False) for part in parts)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One pass of all rows through the encoder, each row through its task's head."""
        if self.separator < 0:
            return self.heads(self.encoder(batch), batch.segments)
        logits = {}
        for rows, length in length_groups(batch):
            states = self.encoder.states(batch, rows, length)
            for segment in batch.segments:
                if (
                    rows.start <= segment.examples.start
                    and segment.examples.stop <= rows.stop
                    and segment.task not in logits
                ):
                    own = states[
                        segment.examples.start - rows.start : segment.examples.stop - rows.start
                    ]
                    with task_context(batch.segments, segment.examples):
                        logits[segment.task] = self._headed(
                            batch, segment.task, segment.examples, own
                        )
        return logits

    def _headed(self, batch: Batch, task: str, rows: slice, states: Tensor) -> Tensor:
        """Logits of one task's rows, from their states (rows, length, H)."""
        head = self.heads[task]
        mask = batch.tokens["attention_mask"][rows, : states.shape[1]]
        if not isinstance(head, READING_TEXTS_APART):
            return head(self.encoder.pool(states, mask))
        separators = batch.tokens["input_ids"][rows, : states.shape[1]].eq(self.separator)
        passed = separators.cumsum(
            1
        )  # the first text ends at the first separator, the second at the last
        texts = mask.bool() & ~separators
        first = texts & (passed == 0)
        first[:, :1] = False  # the token that stands for the row
        return head(states, first, texts & (passed > 0))


def _by_task(dropout: float | Mapping[str, float], names: list[str]) -> dict[str, float]:
    if not isinstance(dropout, Mapping):
        return dict.fromkeys(names, dropout)
    if unknown := [name for name in dropout if name not in names]:
        raise UserError(
            f"dropout: {unknown[0]!r} is none of the tasks {names}.{did_you_mean(unknown[0], names)}"
        )
    return {name: dropout.get(name, USUAL_DROPOUT) for name in names}
