"""State dicts as vectors: mean, differences from the pretrained weights, sums."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def average_weights(models: Sequence[Mapping[str, Tensor]]) -> Weights:
    """Averages the weights of several models.

    Entries that are not floating-point tensors are those of the first model.

    Source: Wortsman et al. 2022, "Model soups", the uniform soup.

    Args:
        models: The state dict of each model.

    Raises:
        ValueError: If the models differ in a name or a shape; the message names the first
            difference.
    """
    first = models[0]
    for model in models[1:]:
        check_same_shapes(first, model)
    average = {}
    for name, value in first.items():
        if is_weight(value):
            stacked = torch.stack([model[name].double() for model in models])
            average[name] = stacked.mean(0).to(value.dtype)
        else:
            average[name] = value
    return average


def task_vector(pretrained: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> Weights:
    """The difference between fine-tuned and pretrained weights, tau = theta - theta_0, in fp32.

    It has no entries for tensors that are not of floating-point numbers.

    Source: Ilharco et al. 2023, "Editing models with task arithmetic", section 2.

    Args:
        pretrained: The state dict of the pretrained model, theta_0.
        model: The state dict of the fine-tuned model, theta.

    Raises:
        ValueError: If they differ in a name or a shape; the message names the first difference.
    """
    check_same_shapes(pretrained, model)
    return {
        name: (model[name].double() - start.double()).float()
        for name, start in pretrained.items()
        if is_weight(start)
    }


def add_vector(
    pretrained: Mapping[str, Tensor], vector: Mapping[str, Tensor], scale: float
) -> Weights:
    """Adds a task vector to pretrained weights, theta_0 + scale * tau.

    Args:
        pretrained: The state dict of the pretrained model, theta_0.
        vector: A task vector, or several merged ones, tau.
        scale: The factor.
    """
    return {
        name: (start.double() + scale * vector[name].double()).to(start.dtype)
        if name in vector
        else start
        for name, start in pretrained.items()
    }


def is_weight(value: object) -> bool:
    """Whether an entry of a state dict can be merged: a tensor of floating-point numbers."""
    return isinstance(value, Tensor) and value.is_floating_point()


def check_same_shapes(first: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Checks that two state dicts have the same names and shapes.

    Raises:
        ValueError: If not; the message names the first difference.
    """
    for name in [*first, *other]:
        if name not in first or name not in other:
            raise ValueError(f"only one of the models has {name}")
        if isinstance(first[name], Tensor) and first[name].shape != other[name].shape:
            raise ValueError(
                f"{name} has shape {tuple(first[name].shape)} in one model and "
                f"{tuple(other[name].shape)} in another"
            )
