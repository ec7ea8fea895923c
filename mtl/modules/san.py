"""Stochastic answer networks: several steps of reasoning over the two texts of a pair."""

import math

import torch
from torch import Tensor, nn

from mtl.modules.heads import linear


class SAN(nn.Module):
    """A state starts as a summary of the second text; each step reads the first text, answers, and updates the state.

    With p and q the two texts' states: s_0 = sum_j softmax(w q_j) q_j; x_k = sum_j softmax(s_k W p_j) p_j; the answer of step
    k is softmax(V [s_k; x_k; `|s_k - x_k|`; s_k x_k]); s_{k+1} = GRU(x_k, s_k). The steps' probabilities are averaged; in
    training each row leaves some out, never all.

    Source: Liu et al. 2018 (SAN); Liu et al. 2019 (MT-DNN), section 3, equations (3) to (5), with the release's dropout.

    Args:
        width: Size H of the hidden states.
        outputs: Number of classes.
        steps: Steps of reasoning.
        dropout: Share of the entries of states and features dropped.
        step_dropout: Share of the steps' answers dropped in training.
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
        """Logarithms of each row's mean probabilities, (rows, outputs): a softmax gives the probabilities back.

        Args:
            states: Hidden states, (rows, length, H).
            first: Which positions are the first text's, (rows, length), at least one in each row.
            second: Which positions are the second text's, (rows, length), at least one in each row.
        """
        dropped = self._dropped(states)
        state = _read(self.summary(dropped).squeeze(-1), second, dropped)  # s_0, (rows, H)
        answers = []
        for _ in range(self.steps):
            asked = self.bilinear(self.dropout(state)).unsqueeze(-1)
            found = _read(
                (self._dropped(states) @ asked).squeeze(-1), first, states
            )  # x_k, (rows, H)
            answers.append(self._answer(state, found))
            state = self.update(found, self.dropout(state))
        logits = torch.stack(answers, dim=1).float()  # (rows, steps, outputs)
        return torch.logsumexp(
            logits.log_softmax(-1) + self._weights(logits).log(), dim=1
        ) - math.log(self.steps)

    def _answer(self, state: Tensor, found: Tensor) -> Tensor:
        return self.answer(
            self.dropout(torch.cat([state, found, (state - found).abs(), state * found], -1))
        )

    def _dropped(self, states: Tensor) -> Tensor:
        """Variational dropout: the same entries in all positions of a row."""
        return states * self.dropout(torch.ones_like(states[:, :1]))

    def _weights(self, logits: Tensor) -> Tensor:
        """What each step of each row counts for, (rows, steps, 1): one of them for sure, the others by chance."""
        weights = torch.ones_like(logits[..., :1])
        if not self.training:
            return weights
        kept = torch.rand_like(weights) >= self.step_dropout
        spared = torch.randint(self.steps, (len(weights), 1, 1), device=weights.device)
        return weights * kept.scatter(1, spared, True) / (1 - self.step_dropout)


class MTBertSAN(SAN):
    """MT-BERT's variant: the answer comes from the updated state, logits are averaged, a step drops for the whole batch.

    Source: the code of MT-BERT (ABaldrati), without the bug of its masks, which cut texts away.
    """

    def forward(self, states: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Each row's mean logits, (rows, outputs); arguments as in `SAN`."""
        state = _read(self.summary(self.dropout(states)).squeeze(-1), second, states)
        memory = self.bilinear(self.dropout(states))
        answers = []
        for _ in range(self.steps):
            found = _read((memory @ state.unsqueeze(-1)).squeeze(-1), first, states)
            state = self.update(found, state)
            answers.append(self._answer(state, found))
        logits = torch.stack(answers, dim=1).float()
        weights = self._weights(logits)
        return (logits * weights).sum(1) / weights.sum(1)

    def _weights(self, logits: Tensor) -> Tensor:
        """As in `SAN`, alike for all rows."""
        return super()._weights(logits[:1]) if logits.shape[0] else logits[..., :1]


def _read(scores: Tensor, wanted: Tensor, states: Tensor) -> Tensor:
    """The mean of the states at the wanted positions, weighted by the softmax of their scores, (rows, H)."""
    weights = scores.float().masked_fill(~wanted, -torch.inf).softmax(-1).to(states.dtype)
    return (weights.unsqueeze(1) @ states).squeeze(1)
