"""A method of three tasks, a batch that mixes them, and their gradients by separate passes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtl.balancing import Balancer, Surgery
from mtl.balancing.shared_parameters import shared_parameters
from mtl.batch import Batch, EncodedExamples, collate
from mtl.methods import CAMTL, MultiTaskModule
from mtl.modules.task_context import task_context
from mtl.tasks import Source, Task


def three_tasks() -> list[Task]:
    classes = ["no", "yes", "maybe"]
    return [
        Task(
            name=name,
            texts=["text"],
            label="label",
            classes=classes[:count],
            source=Source(path="."),
        )
        for name, count in (("mood", 2), ("same", 3), ("kind", 2))
    ]


def mixed_batch(
    sizes: tuple[int, ...] = (3, 4, 2),
    lengths: tuple[int, ...] = (6, 9, 25),
    seed: int = 0,
    types: bool = True,
) -> Batch:
    """Examples of all tasks, whose lengths differ so much that they need several encoder passes."""
    rng = np.random.default_rng(seed)
    parts = []
    for task, (size, length) in enumerate(zip(sizes, lengths, strict=True)):
        ids = [
            np.concatenate([[2], rng.integers(5, 20, length - 2 - example % 3), [3]])
            for example in range(size)
        ]
        tokens = {"input_ids": ids}
        if types:
            tokens["token_type_ids"] = [np.arange(len(example)) % 2 for example in ids]
        parts.append(
            EncodedExamples(task, tokens, rng.integers(0, 2, size), np.arange(size), float(size))
        )
    return collate(parts, [task.name for task in three_tasks()], {})


def make_method(cls: type[MultiTaskModule], backbone: str, balancer: Balancer, **args: Any) -> Any:
    torch.manual_seed(0)
    if cls is CAMTL:
        args["max_length"] = 32
    method = cls(tasks=three_tasks(), backbone=backbone, balancer=balancer, **args).eval()
    with torch.no_grad():  # no parameter stays at zero
        for parameter in method.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return method


def start_step(method: Any, batch: Batch) -> None:
    """Calls the hooks that precede the forward pass of a step."""
    for each in (method.balancer, method.regularizer):
        if each is not None:
            each.on_step_start(batch, seed=5)


def task_losses(method: Any, batch: Batch) -> dict[str, Tensor]:
    start_step(method, batch)
    with task_context(batch.segments, slice(0, len(batch.task_ids))):
        return method.task_losses(batch)


def training_step(method: Any, batch: Batch, scale: float = 1.0) -> None:
    losses = task_losses(method, batch)
    method.balancer.backward(scale * method.combined(batch, losses))


def gradients_by_separate_passes(
    method: Any, batch: Batch
) -> tuple[dict[str, nn.Parameter], Tensor, Tensor]:
    """Gradients of the shared parameters by one backward pass per task.

    Returns:
        The shared parameters by name; the tasks' gradients, shape (tasks, entries); which
        parameters have a gradient.
    """
    shared = shared_parameters(method)
    if method.regularizer is not None:
        method.regularizer.on_step_start(batch, seed=5)
    losses = method.task_losses(batch)
    rows, is_used = [], torch.zeros(len(shared), dtype=torch.bool)
    for loss in losses.values():
        gradients = torch.autograd.grad(
            loss, list(shared.values()), retain_graph=True, allow_unused=True
        )
        is_used |= torch.tensor([gradient is not None for gradient in gradients])
        rows.append(
            torch.cat(
                [
                    (torch.zeros_like(parameter) if gradient is None else gradient).flatten()
                    for gradient, parameter in zip(gradients, shared.values(), strict=True)
                ]
            )
        )
    return shared, torch.stack(rows), is_used


def flat_grad(method: Any) -> Tensor:
    return torch.cat(
        [
            parameter.grad.flatten()
            for parameter in shared_parameters(method).values()
            if parameter.grad is not None
        ]
    )


def assert_combined(method: Any, batch: Batch, scale: float = 1.0, **tolerance: float) -> None:
    """Checks `.grad` of the shared parameters, and the inner products, against separate passes."""
    balancer = method.balancer
    assert isinstance(balancer, Surgery)
    actual = {name: parameter.grad for name, parameter in method.named_parameters()}
    balancer.on_fit_end()
    shared, rows, is_used = gradients_by_separate_passes(method, batch)
    close: dict[str, Any] = tolerance or {"atol": 1e-5, "rtol": 3e-5}  # sums in fp32
    gramian = torch.stack(list(balancer.gramians.values())).sum(0)
    torch.testing.assert_close(gramian, rows @ rows.t(), **close)
    expected = (scale * balancer.weights @ rows).split(
        [parameter.numel() for parameter in shared.values()]
    )
    for (name, parameter), values, used in zip(
        shared.items(), expected, is_used.tolist(), strict=True
    ):
        gradient = actual[name]
        assert (gradient is not None) == used, name
        if gradient is not None:
            torch.testing.assert_close(gradient, values.view_as(parameter), **close)


@contextmanager
def no_separate_passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Context manager: a backward pass per task is an error."""
    with monkeypatch.context() as patch:
        patch.setattr(
            "mtl.balancing.surgery.slow_task_gradients",
            lambda *_: pytest.fail("gradient surgery ran a backward pass for each task"),
        )
        yield
