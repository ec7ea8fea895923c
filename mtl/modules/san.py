"""The stochastic answer network: several steps of reasoning over the two texts of a pair."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl.modules.heads import linear


class SAN(nn.Module):
    """A state starts as a summary of the hypothesis; each step attends to the premise, answers, and updates the state.

    Source: Liu et al. 2018 (SAN); Liu et al. 2019 (MT-DNN), section 3, equations (3) to (5). `mt_dnn`: the answer of a step
    comes from the state before its update, the answers' probabilities are averaged, and a row drops steps of its own.
    `mt_bert`: from the state after the update; logits are averaged; a step is dropped for the whole batch.

    Args:
        width: Size H of the hidden states.
        outputs: Number of classes.
        steps: Steps of reasoning; 5 in MT-DNN, the number of layers in MT-BERT.
        dropout: Share dropped of the states' entries, the same in all positions of a row, and of the features.
        step_dropout: Share of the steps' answers dropped in training; one at least is kept.
        kind: `mt_dnn` or `mt_bert`.
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        steps: int = 5,
        dropout: float = 0.1,
        step_dropout: float = 0.1,
        kind: Literal["mt_dnn", "mt_bert"] = "mt_dnn",
    ) -> None:
        super().__init__()
        self.steps, self.dropout, self.step_dropout, self.kind = steps, dropout, step_dropout, kind
        self.summary = linear(width, 1)
        # s W p: MT-DNN multiplies the state, MT-BERT the premise, which moves the bias from one to the other.
        self.bilinear = linear(width, width)
        self.update = nn.GRUCell(width, width)
        self.answer = linear(4 * width, outputs)

    def forward(self, states: Tensor, premise: Tensor, hypothesis: Tensor) -> Tensor:
        """Logits of each row, (rows, outputs).

        Args:
            states: Hidden states, (rows, length, H).
            premise: Which positions are the first text's, (rows, length), at least one in each row.
            hypothesis: Which positions are the second text's, (rows, length), at least one in each row.
        """
        weights = _among(self.summary(self._dropped(states)).squeeze(-1), hypothesis)
        state = _read(weights, states)  # s_0, (rows, H)
        memory = self.bilinear(self._dropped(states)) if self.kind == "mt_bert" else states
        answers = []
        for _ in range(self.steps):
            asked = state if self.kind == "mt_bert" else self.bilinear(F.dropout(state, self.dropout, self.training))
            found = _read(_among(torch.einsum("rh,rlh->rl", asked, memory), premise), states)  # x_k, (rows, H)
            if self.kind == "mt_bert":
                state = self.update(found, state)
            features = torch.cat([state, found, (state - found).abs(), state * found], dim=-1)
            answers.append(self.answer(F.dropout(features, self.dropout, self.training)))
            if self.kind == "mt_dnn":
                state = self.update(found, F.dropout(state, self.dropout, self.training))
        stacked = torch.stack(answers, dim=1).float()  # (rows, steps, outputs)
        if self.kind == "mt_bert":
            return (stacked * self._kept(1, stacked)).mean(1)
        # Logarithms of averaged probabilities: a softmax gives these back, whatever the scale of what was kept.
        return (stacked.softmax(-1) * self._kept(len(stacked), stacked)).mean(1).log()

    def _kept(self, rows: int, like: Tensor) -> Tensor:
        """Which steps count, scaled so that their mean is that of all, (rows, steps, 1)."""
        if not self.training or not self.step_dropout:
            return like.new_ones(rows, self.steps, 1)
        kept = torch.rand(rows, self.steps, device=like.device) >= self.step_dropout
        spared = torch.randint(self.steps, (rows, 1), device=like.device)
        kept = kept.scatter(1, spared, True).unsqueeze(-1).to(like.dtype)
        # MT-BERT averages over the steps kept; MT-DNN divides by the share that is kept in the mean.
        return kept * self.steps / kept.sum(1, keepdim=True) if self.kind == "mt_bert" else kept / (1 - self.step_dropout)

    def _dropped(self, states: Tensor) -> Tensor:
        """Variational dropout: the same entries in all positions of a row."""
        return states * F.dropout(torch.ones_like(states[:, :1]), self.dropout, self.training)


def _among(scores: Tensor, wanted: Tensor) -> Tensor:
    """Softmax over the wanted positions, (rows, length); 0 elsewhere."""
    return scores.float().masked_fill(~wanted, -torch.inf).softmax(-1)


def _read(weights: Tensor, states: Tensor) -> Tensor:
    return torch.einsum("rl,rlh->rh", weights.to(states.dtype), states)
