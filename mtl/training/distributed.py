"""Reductions over the processes that train together; with one process they change nothing."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed


def several_processes() -> bool:
    """Whether several processes train together."""
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def world_size() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if several_processes() else 1


def sum_over_processes(values: Tensor) -> Tensor:
    """Sums over all processes, in place and without gradient."""
    if several_processes():
        distributed.all_reduce(values)
    return values


def mean_over_processes(values: Tensor) -> Tensor:
    """Returns the mean over all processes, as a new tensor without gradient."""
    values = values.detach().clone()
    return sum_over_processes(values) / world_size() if several_processes() else values


def used_by_any_process(used: Sequence[bool], device: torch.device) -> list[bool]:
    """Whether each of some tensors, in the same order in all processes, is used in any of them.

    A process that does not use such a tensor still has to take part in its reduction.
    """
    return sum_over_processes(torch.tensor(used, device=device).long()).bool().tolist()


def with_mean_value(losses: Tensor) -> Tensor:
    """Returns the mean over all processes, with the gradient of this process's losses only."""
    return (
        losses + (mean_over_processes(losses) - losses).detach() if several_processes() else losses
    )


def gather_concatenated(values: Tensor) -> Tensor:
    """Concatenates the tensors of all processes along dimension 0; its size may differ."""
    if not several_processes():
        return values
    sizes = [torch.zeros(1, dtype=torch.long, device=values.device) for _ in range(world_size())]
    distributed.all_gather(sizes, torch.tensor([len(values)], device=values.device))
    counts = [int(size) for size in sizes]
    if not max(counts):
        return values
    padded = values.new_zeros(max(counts), *values.shape[1:])
    padded[: len(values)] = values
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def stop_launched_processes(trainer: Any) -> None:
    """Kills the processes that a Trainer started; they would wait for this one forever."""
    for process in getattr(trainer.strategy.launcher, "procs", ()):
        process.kill()
