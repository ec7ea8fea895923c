"""How several models' answers to the same rows become one."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Vote = Literal["soft", "hard", "weighted"]


def voted(outputs: Sequence[Tensor], vote: Vote, weights: Sequence[float]) -> Tensor:
    """One answer of several members' for each row.

    `soft`: the mean of class probabilities. `hard`: the share of the members that choose a class; where shares are equal
    the class with the smallest number is the answer. `weighted`: the mean of probabilities, weighted. Values are averaged,
    with weights where weighted.

    Source: specification C.9 (the CS224N project: majority, ties to the smallest label, mean of values).

    Args:
        outputs: Each member's class probabilities, (rows, classes), or values, (rows, 1).
        vote: How.
        weights: What each member weighs, none negative; equal where all are 0.

    Returns:
        Shares of the classes, (rows, classes), or values, (rows, 1).
    """
    stacked = torch.stack(list(outputs)).double()
    if vote == "hard" and stacked.shape[-1] > 1:
        stacked = torch.nn.functional.one_hot(stacked.argmax(-1), stacked.shape[-1]).double()
    given = torch.tensor(
        weights if vote == "weighted" and any(weights) else [1.0] * len(stacked), dtype=torch.double
    )
    return torch.einsum("m,mrc->rc", given / given.sum(), stacked)


def soup(members: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several models' weights.

    Source: Wortsman et al. 2022, "Model soups", the uniform soup.

    Args:
        members: Each model's weights by name.

    Raises:
        ValueError: If they differ in a name or a shape; the message names the first that does.
    """
    first = members[0]
    for member in members[1:]:
        for name in [*first, *member]:
            if name not in first or name not in member:
                raise ValueError(f"one has {name}, another has not")
            if isinstance(first[name], Tensor) and first[name].shape != member[name].shape:
                raise ValueError(
                    f"{name} is {tuple(first[name].shape)} in one and {tuple(member[name].shape)} in another"
                )
    mixed = {}
    for name, value in first.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            mixed[name] = (
                torch.stack([member[name].double() for member in members]).mean(0).to(value.dtype)
            )
        else:
            mixed[name] = value
    return mixed
