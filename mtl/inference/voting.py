"""Combine the predictions of several models."""

from collections.abc import Sequence
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
      index; in multi-label tasks, to the prediction of the class.
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
