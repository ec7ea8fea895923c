"""Stochastic answer networks: heads that classify a pair of texts in several reasoning steps."""

import math

import torch
from torch import Tensor, nn

from mtl.modules.initialization import linear


class SANHead(nn.Module):
    """MT-DNN's stochastic answer network.

    The state is initialized with a summary of the second text; each step attends to the first text,
    predicts class probabilities, and updates the state. With p and q the states of the two texts::

        s_0 = sum_j softmax(w q_j) q_j
        x_k = sum_j softmax(s_k W p_j) p_j
        s_{k+1} = GRU(x_k, s_k)

    and the probabilities of step k are softmax(V [s_k; x_k; `|s_k - x_k|`; s_k x_k]). The output is
    the mean of the steps' probabilities. In training, each example drops some of the steps, never
    all.

    A text's tokens are those of its segment: the first text includes [CLS] and the first [SEP], the
    second text the last [SEP], as in the release.

    The answer layer reads its four features in the order above, the paper's. The release
    concatenates [x_k; s_k; `|s_k - x_k|`; s_k x_k]; `answer_weight_from_release` reorders the
    columns of its checkpoints.

    Source: Liu et al. 2018 (SAN); Liu et al. 2019 (MT-DNN), section 3, equations (3) to (5), with
    the release's dropout.

    Args:
        width: Size H of the hidden states.
        outputs: Number of classes.
        steps: Number of reasoning steps.
        dropout: Dropout probability of states and features.
        step_dropout: Probability that a step's prediction is dropped in training.
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        steps: int = 5,
        dropout: float = 0.1,
        step_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.steps, self.step_dropout = steps, step_dropout
        self.dropout = nn.Dropout(dropout)
        self.summary = linear(width, 1)
        self.bilinear = linear(width, width)
        self.update = nn.GRUCell(width, width)
        self.answer = linear(4 * width, outputs)

    def forward(self, states: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Logarithms of the mean probabilities, shape (examples, outputs).

        Their softmax gives the probabilities.

        Args:
            states: Hidden states, shape (examples, length, H).
            first: Mask of the first text's tokens, shape (examples, length), at least one each.
            second: Mask of the second text's tokens, shape (examples, length), at least one each.
        """
        dropped = self._variational_dropout(states)
        state = _attend(self.summary(dropped).squeeze(-1), second, dropped)  # s_0, (examples, H)
        step_logits = []
        for _ in range(self.steps):
            query = self.bilinear(self.dropout(state)).unsqueeze(-1)
            scores = (self._variational_dropout(states) @ query).squeeze(-1)
            context = _attend(scores, first, states)  # x_k, (examples, H)
            step_logits.append(self._logits(state, context))
            state = self.update(context, self.dropout(state))
        logits = torch.stack(step_logits, dim=1).float()  # (examples, steps, outputs)
        return torch.logsumexp(
            logits.log_softmax(-1) + self._step_weights(logits).log(), dim=1
        ) - math.log(self.steps)

    def _logits(self, state: Tensor, context: Tensor) -> Tensor:
        features = torch.cat([state, context, (state - context).abs(), state * context], -1)
        return self.answer(self.dropout(features))

    def _variational_dropout(self, states: Tensor) -> Tensor:
        """Dropout with the same mask for all tokens of an example."""
        return states * self.dropout(torch.ones_like(states[:, :1]))

    def _step_weights(self, logits: Tensor) -> Tensor:
        """Weight of each step's prediction, shape (examples, steps, 1); 0 for a dropped step.

        One step is never dropped; it is sampled per example.
        """
        weights = torch.ones_like(logits[..., :1])
        if not self.training:
            return weights
        is_kept = torch.rand_like(weights) >= self.step_dropout
        never_dropped = torch.randint(self.steps, (len(weights), 1, 1), device=weights.device)
        return weights * is_kept.scatter(1, never_dropped, True) / (1 - self.step_dropout)


class MTBertSANHead(SANHead):
    """MT-BERT's variant of the stochastic answer network.

    A step's logits are computed from the updated state, logits are averaged instead of
    probabilities, and steps are dropped for the complete batch.

    Source: the code of MT-BERT (ABaldrati), without the bug of its masks, which truncate texts.
    """

    def forward(self, states: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Mean logits, shape (examples, outputs); arguments as in `SANHead`."""
        state = _attend(self.summary(self.dropout(states)).squeeze(-1), second, states)
        memory = self.bilinear(self.dropout(states))
        step_logits = []
        for _ in range(self.steps):
            context = _attend((memory @ state.unsqueeze(-1)).squeeze(-1), first, states)
            state = self.update(context, state)
            step_logits.append(self._logits(state, context))
        logits = torch.stack(step_logits, dim=1).float()
        weights = self._step_weights(logits)
        return (logits * weights).sum(1) / weights.sum(1)

    def _step_weights(self, logits: Tensor) -> Tensor:
        """As in `SANHead`, but the same for all examples."""
        return super()._step_weights(logits[:1]) if logits.shape[0] else logits[..., :1]


def answer_weight_from_release(weight: Tensor) -> Tensor:
    """The weight of `SANHead.answer` from that of MT-DNN's release: its first two blocks swapped.

    Args:
        weight: Weight of the release's answer layer, shape (outputs, 4H).
    """
    context, state, difference, product = weight.chunk(4, dim=1)
    return torch.cat([state, context, difference, product], dim=1)


def _attend(scores: Tensor, mask: Tensor, states: Tensor) -> Tensor:
    """Mean of the masked tokens' states, weighted by the softmax of their scores, (examples, H)."""
    weights = scores.float().masked_fill(~mask, -torch.inf).softmax(-1).to(states.dtype)
    return (weights.unsqueeze(1) @ states).squeeze(1)
