"""Reference implementation of CA-MTL's encoder: one example at a time, formula by formula."""

import math
from typing import Any

import torch
from torch import Tensor


def film(weights: dict[str, Tensor], name: str, condition: Tensor) -> tuple[Tensor, Tensor]:
    out = weights[f"{name}.gamma_beta.weight"] @ condition + weights[f"{name}.gamma_beta.bias"]
    half = len(out) // 2
    return out[:half], out[half:]


def dense(weights: dict[str, Tensor], name: str, states: Tensor) -> Tensor:
    return torch.stack(
        [weights[f"{name}.weight"] @ state + weights[f"{name}.bias"] for state in states]
    )


def norm(states: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    mean = states.mean(1, keepdim=True)
    variance = ((states - mean) ** 2).mean(1, keepdim=True)
    return (states - mean) / torch.sqrt(variance + eps) * weight + bias


def bias_matrix(
    weights: dict[str, Tensor], layer: int, inner: Tensor, width: int, length: int
) -> Tensor:
    """M(z): the rows of A' as blocks along the diagonal, shape (L, L)."""
    matrix = weights[f"biases.{layer}.matrix"]
    gamma, beta = film(weights, f"biases.{layer}.film", inner)
    blocks = max(1, width // length)
    rows = math.ceil(length / blocks)
    assert matrix.shape == (length, rows)
    bias = torch.zeros(length, length)
    for row in range(length):
        for column in range(rows):
            index = (row // rows) * rows + column
            if index < length:
                bias[row, index] = (1 + gamma[column]) * matrix[row, column] + beta[column]
    return bias


def bottleneck(weights: dict[str, Tensor], number: int, inner: Tensor, states: Tensor) -> Tensor:
    name = f"bottlenecks.{number}"
    condition = weights[f"{name}.condition.weight"] @ inner + weights[f"{name}.condition.bias"]
    gamma, beta = film(weights, f"{name}.film", condition)
    return dense(weights, f"{name}.up", dense(weights, f"{name}.down", (1 + gamma) * states + beta))


def conditional_norm(
    weights: dict[str, Tensor], name: str, inner: Tensor, states: Tensor, eps: float
) -> Tensor:
    gamma, beta = film(weights, f"{name}.film", inner)
    return norm(
        states, (1 + gamma) * weights[f"{name}.weight"] + beta, weights[f"{name}.bias"], eps
    )


def states(
    weights: dict[str, Tensor],
    config: Any,
    variant: str,
    length: int,
    ids: Tensor,
    types: Tensor,
    task: int,
) -> Tensor:
    """Last hidden states of one example without padding, shape (tokens, H)."""
    eps, heads, width, depth = (
        config.layer_norm_eps,
        config.num_attention_heads,
        config.hidden_size,
        config.num_hidden_layers,
    )
    embedding = weights["task_embedding.weight"][task]
    inner = weights["transformation.weight"] @ embedding + weights["transformation.bias"]
    table = "backbone.embeddings."
    summed = (
        weights[f"{table}word_embeddings.weight"][ids]
        + weights[f"{table}position_embeddings.weight"][: len(ids)]
        + weights[f"{table}token_type_embeddings.weight"][types]
    )
    hidden = norm(
        summed, weights[f"{table}LayerNorm.weight"], weights[f"{table}LayerNorm.bias"], eps
    )
    gamma, beta = film(weights, "alignment", embedding)
    hidden = (1 + gamma) * hidden + beta
    chain = torch.zeros_like(hidden)
    for layer in range(depth):
        name = f"backbone.encoder.layer.{layer}."

        def normalized(module: str, values: Tensor, name: str = name, layer: int = layer) -> Tensor:
            if layer < depth // 2:
                return norm(
                    values, weights[f"{name}{module}.weight"], weights[f"{name}{module}.bias"], eps
                )
            return conditional_norm(weights, f"{name}{module}", inner, values, eps)

        query, key, value = (
            dense(weights, f"{name}attention.self.{module}", hidden)
            for module in ("query", "key", "value")
        )
        size = width // heads
        bias = bias_matrix(weights, layer, inner, width, length)[: len(ids), : len(ids)]
        contexts = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            scores = query[:, own] @ key[:, own].T / math.sqrt(size) + bias
            contexts.append(torch.softmax(scores, -1) @ value[:, own])
        attended = normalized(
            "attention.output.LayerNorm",
            dense(weights, f"{name}attention.output.dense", torch.cat(contexts, 1)) + hidden,
        )
        wide = dense(weights, f"{name}intermediate.dense", attended)
        wide = wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2)))
        output = normalized(
            "output.LayerNorm", dense(weights, f"{name}output.dense", wide) + attended
        )
        if variant == "base" and layer == depth - 1:
            output = conditional_norm(
                weights, "top_norm", inner, bottleneck(weights, 0, inner, output) + attended, eps
            )
        hidden = output
        if variant == "large":
            chain = bottleneck(weights, layer, inner, hidden + chain)
    return chain if variant == "large" else hidden
