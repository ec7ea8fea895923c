"""Combine several models: their predictions, or their weights."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from mtl.tasks.multi_label import THRESHOLD

Vote = Literal["soft", "hard", "weighted"]


def combine_votes(
    outputs: Sequence[Tensor], vote: Vote, weights: Sequence[float], multi_label: bool = False
) -> Tensor:
    """Combines the predictions of several members for the same examples.

    - `soft`: the mean of the class probabilities.
    - `hard`: the fraction of members that predict each class. Ties go to the class with the lowest
      index.
    - `weighted`: the weighted mean of the class probabilities.

    Values of a regression task are averaged; weighted, if the vote is `weighted`.

    Source: specification C.9 (the CS224N project: majority vote, ties to the smallest label, mean
    of values).

    Args:
        outputs: For each member class probabilities, shape (examples, classes), or values, shape
            (examples, 1).
        vote: How to combine them.
        weights: The weight of each member, none negative. If all are 0, members count equally.
        multi_label: Whether each class is a decision of its own.

    Returns:
        Combined class probabilities, shape (examples, classes), or values, shape (examples, 1).
    """
    stacked = torch.stack(list(outputs)).double()
    if vote == "hard" and multi_label:
        stacked = (stacked >= THRESHOLD).double()
    elif vote == "hard" and stacked.shape[-1] > 1:
        present = stacked.sum(-1, keepdim=True) > 0  # words without outputs have zeros
        stacked = torch.nn.functional.one_hot(stacked.argmax(-1), stacked.shape[-1]).double()
        stacked = stacked.where(present, 0.0)
    weighted = vote == "weighted" and any(weights)
    coefficients = torch.tensor(weights if weighted else [1.0] * len(stacked), dtype=torch.double)
    return torch.einsum("m,m...->...", coefficients / coefficients.sum(), stacked)


def average_weights(members: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Averages the weights of several models.

    Entries that are not floating-point tensors are those of the first model.

    Source: Wortsman et al. 2022, "Model soups", the uniform soup.

    Args:
        members: The state dict of each model.

    Raises:
        ValueError: If the models differ in a name or a shape; the message names the first
            difference.
    """
    first = members[0]
    for member in members[1:]:
        _check_same_shapes(first, member)
    average = {}
    for name, value in first.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            average[name] = (
                torch.stack([member[name].double() for member in members]).mean(0).to(value.dtype)
            )
        else:
            average[name] = value
    return average


def _check_same_shapes(first: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    for name in [*first, *other]:
        if name not in first or name not in other:
            raise ValueError(f"only one of the models has {name}")
        if isinstance(first[name], Tensor) and first[name].shape != other[name].shape:
            raise ValueError(
                f"{name} has shape {tuple(first[name].shape)} in one model and "
                f"{tuple(other[name].shape)} in another"
            )
