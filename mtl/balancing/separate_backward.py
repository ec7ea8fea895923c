"""One backward pass per task, for models whose shared parameters cannot all be captured."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn


def slow_task_gradients(
    losses: Tensor, factors: Tensor, shared: dict[str, nn.Parameter]
) -> list[tuple[Tensor | None, ...]]:
    """Computes the gradients of each task with one backward pass per task. Keeps the graph.

    Args:
        losses: Loss of each task, shape (tasks,).
        factors: Factor of each loss, shape (tasks,).
        shared: The parameters by name.

    Returns:
        For each task the gradient of each parameter; None if the loss does not depend on it.
    """
    # Row t selects the loss of task t: the gradient of `losses` that the backward pass starts from.
    selections = torch.eye(len(losses), device=losses.device) * factors.unsqueeze(1)
    grad: Callable[..., tuple[Tensor | None, ...]] = torch.autograd.grad
    return [
        grad(losses, list(shared.values()), selected, retain_graph=True, allow_unused=True)
        for selected in selections
    ]


def flatten_gradients(gradients: Sequence[Tensor | None], shared: Mapping[str, Tensor]) -> Tensor:
    """Concatenates one task's gradients to a vector, fp32, shape (entries,); None stands for 0."""
    pairs = zip(gradients, shared.values(), strict=True)
    return torch.cat(
        [
            (torch.zeros_like(parameter) if gradient is None else gradient).flatten().float()
            for gradient, parameter in pairs
        ]
    )
