"""What processes that train together must agree on."""

import torch
from torch import Tensor, distributed


def several_processes() -> bool:
    """Whether this is one of several processes that train together."""
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum over all processes, in place and without gradient."""
    if several_processes():
        distributed.all_reduce(values)
    return values


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean over all processes, as a new tensor without gradient."""
    values = values.detach().clone()
    return (
        sum_over_processes(values) / distributed.get_world_size() if several_processes() else values
    )


def with_mean_value(losses: Tensor) -> Tensor:
    """The mean over all processes as the value, with the gradient of this process's losses."""
    return (
        losses + (mean_over_processes(losses) - losses).detach() if several_processes() else losses
    )


def gather_concatenated(values: Tensor) -> Tensor:
    """The tensors of all processes, concatenated along the first axis; their lengths may differ."""
    if not several_processes():
        return values
    sizes = [
        torch.zeros(1, dtype=torch.long, device=values.device)
        for _ in range(distributed.get_world_size())
    ]
    distributed.all_gather(sizes, torch.tensor([len(values)], device=values.device))
    counts = [int(size) for size in sizes]
    if not max(counts):
        return values
    padded = values.new_zeros(max(counts), *values.shape[1:])
    padded[: len(values)] = values
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
