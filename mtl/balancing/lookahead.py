"""How a step on one task's gradient changes the losses of all tasks."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from mtl.balancing.separate_backward import slow_task_gradients

Losses = Callable[[], Mapping[str, Tensor]]
"""Computes the mean loss of each task in a batch; the same losses at the same weights."""


def lookahead_affinity(
    losses: Losses, shared: Mapping[str, nn.Parameter], rates: Mapping[str, float]
) -> dict[tuple[str, str], float]:
    """Inter-task affinity: the relative reduction of a task's loss by a step on another's gradient.

    Z(i, j) = 1 - L_j(theta_s - eta * grad L_i, theta_j) / L_j(theta_s, theta_j), where the step
    changes the shared parameters theta_s only. Takes a backward pass per task, and a forward pass
    per task and one more. The weights are the same afterwards, to the bit.

    Source: Fifty et al. 2021, equation (1).

    Args:
        losses: Computes the losses of a batch that contains all tasks of interest.
        shared: The shared parameters by name.
        rates: The learning rate eta of each of them.

    Returns:
        Z by the names of task i, whose gradient the step follows, and task j, whose loss is
        compared; without tasks whose loss is 0.
    """
    before = losses()
    tasks, vector = list(before), torch.stack(list(before.values()))
    gradients = slow_task_gradients(vector, torch.ones_like(vector), dict(shared))
    # One copy, not the inverse step, which would round.
    weights = {name: parameter.detach().clone() for name, parameter in shared.items()}
    found = {}
    with torch.no_grad():
        for task, gradient in zip(tasks, gradients, strict=True):
            for (name, parameter), step in zip(shared.items(), gradient, strict=True):
                if step is not None:
                    parameter.sub_(rates[name] * step)
            after = losses()
            for name, parameter in shared.items():
                parameter.copy_(weights[name])
            for other in tasks:
                if before[other] > 0:
                    found[task, other] = float(1 - after[other] / before[other])
    return found
