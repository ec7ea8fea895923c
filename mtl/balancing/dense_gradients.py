"""Stores the gradient of each task as complete tensors: vectors, and linear weights if `stored`."""

from collections.abc import Callable, Iterator
from itertools import compress

import torch
from torch import Tensor, nn

from mtl.balancing.inner_products import gramian
from mtl.training.distributed import mean_over_processes, used_by_any_process

Weights = Callable[[str], Tensor]
"""Weight of each task's gradient, shape (tasks,), fp32, by the name of a parameter."""


class DenseGradients:
    """Gradients of parameters, one copy for each task: (tasks, *shape of the parameter).

    A matrix with fewer rows than columns is stored transposed: a product over few tokens is faster
    if its result has more rows than columns.

    Args:
        shared: The shared parameters by name.
    """

    def __init__(self, shared: dict[str, nn.Parameter]) -> None:
        self._shared = shared
        self._tasks = 0
        # Reused in every step, because allocating memory is slow.
        self._buffers: dict[str, Tensor] = {}
        self._written: dict[str, set[int]] = {}

    def start(self, tasks: int) -> None:
        """Forgets the gradients of the last step.

        Args:
            tasks: Number of tasks in this step.
        """
        self._tasks, self._written = tasks, {}

    def add(self, name: str, task: int, gradient: Tensor) -> None:
        """Adds a gradient of the parameter's shape to a task's gradient."""
        buffer, is_new = self._buffer(name, task, gradient.dtype)
        buffer.copy_(gradient) if is_new else buffer.add_(gradient)

    def add_product(self, name: str, task: int, inputs: Tensor, grad_output: Tensor) -> None:
        """Adds the gradient of a linear weight to a task's gradient.

        Args:
            name: Name of the weight, shape (out, in).
            task: Index of the task.
            inputs: Inputs of the layer, shape (tokens, in).
            grad_output: Gradient of its output, shape (tokens, out).
        """
        left, right = (
            (inputs, grad_output) if _is_transposed(self._shared[name]) else (grad_output, inputs)
        )
        buffer, is_new = self._buffer(name, task, left.dtype)
        if is_new:
            torch.mm(left.t(), right, out=buffer)
        else:
            buffer.addmm_(left.t(), right)

    def complete(self) -> None:
        """Sets the gradients that no example contributed to, to zero."""
        for name, written in self._written.items():
            for task in set(range(self._tasks)) - written:
                self._buffers[name][task].zero_()

    def average(self) -> None:
        """Replaces the gradients by their mean over all processes."""
        device = next(iter(self._shared.values())).device
        used = used_by_any_process([name in self._written for name in self._shared], device)
        for name in compress(self._shared, used):
            if name not in self._written:
                for task in range(self._tasks):
                    self._buffer(name, task, self._shared[name].dtype)[0].zero_()
            gradients = self._buffers[name][: self._tasks]
            gradients.copy_(mean_over_processes(gradients.float()))

    def gramians(self) -> Iterator[tuple[str, Tensor]]:
        """Yields the name of each parameter and the inner products of its gradients."""
        for name in self._written:
            yield name, gramian(self._buffers[name][: self._tasks].flatten(1))

    def write(self, weights: Weights) -> None:
        """Adds the weighted sum of the tasks' gradients to `.grad`."""
        for name in self._written:
            gradients = self._buffers[name][: self._tasks]
            combined = weights(name).to(gradients.dtype) @ gradients.flatten(1)
            combined = combined.view(gradients.shape[1:])
            parameter = self._shared[name]
            accumulate_grad(
                parameter, combined.t().contiguous() if _is_transposed(parameter) else combined
            )

    def _buffer(self, name: str, task: int, dtype: torch.dtype) -> tuple[Tensor, bool]:
        """The buffer of a task's gradient, and whether it is unused in this step so far."""
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < self._tasks or buffer.dtype != dtype:
            parameter = self._shared[name]
            shape = parameter.shape[::-1] if _is_transposed(parameter) else parameter.shape
            buffer = parameter.new_empty((self._tasks, *shape), dtype=dtype)
            self._buffers[name] = buffer
        written = self._written.setdefault(name, set())
        is_new = task not in written
        written.add(task)
        return buffer[task], is_new


def accumulate_grad(parameter: nn.Parameter, gradient: Tensor) -> None:
    """Adds a gradient to `.grad`, in the parameter's precision."""
    gradient = gradient.to(parameter.dtype)
    if parameter.grad is None:
        parameter.grad = gradient
    else:
        parameter.grad += gradient


def _is_transposed(parameter: Tensor) -> bool:
    return parameter.ndim == 2 and parameter.shape[0] < parameter.shape[1]
