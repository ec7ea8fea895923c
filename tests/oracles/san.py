"""Reference implementation of the stochastic answer network: one example, without dropout."""

import torch
from torch import Tensor


def gru(weights: dict[str, Tensor], x: Tensor, state: Tensor) -> Tensor:
    """The gated recurrent unit of Cho et al. 2014, with two biases as in common implementations."""
    size = len(state)
    inner = weights["update.weight_ih"] @ x + weights["update.bias_ih"]
    outer = weights["update.weight_hh"] @ state + weights["update.bias_hh"]
    reset = torch.sigmoid(inner[:size] + outer[:size])
    update = torch.sigmoid(inner[size : 2 * size] + outer[size : 2 * size])
    new = torch.tanh(inner[2 * size :] + reset * outer[2 * size :])
    return (1 - update) * new + update * state


def answer(
    weights: dict[str, Tensor], premise: Tensor, hypothesis: Tensor, steps: int, kind: str
) -> Tensor:
    """Logits (mt_bert) or log probabilities (mt_dnn) from the texts' states, each (tokens, H)."""
    alpha = torch.softmax(
        torch.stack(
            [weights["summary.weight"][0] @ q + weights["summary.bias"][0] for q in hypothesis]
        ),
        0,
    )
    state = sum(
        (a * q for a, q in zip(alpha, hypothesis, strict=True)), torch.zeros_like(premise[0])
    )
    total = torch.zeros(len(weights["answer.bias"]))
    for _ in range(steps):
        scores = []
        for p in premise:
            if kind == "mt_bert":
                scores.append(state @ (weights["bilinear.weight"] @ p + weights["bilinear.bias"]))
            else:
                scores.append(p @ (weights["bilinear.weight"] @ state + weights["bilinear.bias"]))
        beta = torch.softmax(torch.stack(scores), 0)
        x = sum((b * p for b, p in zip(beta, premise, strict=True)), torch.zeros_like(state))
        updated = gru(weights, x, state)
        read = updated if kind == "mt_bert" else state
        features = torch.cat([read, x, abs(read - x), read * x])
        logits = weights["answer.weight"] @ features + weights["answer.bias"]
        total += logits if kind == "mt_bert" else torch.softmax(logits, 0)
        state = updated
    return total / steps if kind == "mt_bert" else torch.log(total / steps)
