"""Stores the factors of linear weights' gradients instead of the gradients (mode `two_pass`)."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from mtl.balancing.dense_gradients import Weights
from mtl.balancing.inner_products import gramian


class TaskRange(NamedTuple):
    """A range of consecutive tokens of one task.

    Attributes:
        task: Index of the task.
        start: Index of the first token.
        stop: Index after the last token.
    """

    task: int
    start: int
    stop: int


class Factors(NamedTuple):
    """The factors of a linear weight's gradient, which is `grad_output` transposed times `inputs`.

    Attributes:
        name: Name of the weight.
        inputs: Inputs of the layer, shape (tokens, in).
        grad_output: Gradient of its output, shape (tokens, out).
        ranges: The task of each token.
    """

    name: str
    inputs: Tensor
    grad_output: Tensor
    ranges: list[TaskRange]


class LinearFactors:
    """The factors that one backward pass collects."""

    def __init__(self) -> None:
        self._tasks = 0
        self._factors: list[Factors] = []

    def start(self, tasks: int) -> None:
        """Forgets the factors of the last step.

        Args:
            tasks: Number of tasks in this step.
        """
        self._tasks, self._factors = tasks, []

    def clear(self) -> None:
        """Frees the factors."""
        self._factors = []

    def add(self, factors: Factors) -> None:
        """Stores the factors of one call of a layer."""
        self._factors.append(factors)

    def gramians(self, group: Callable[[str], str]) -> Iterator[tuple[str, Tensor]]:
        """Yields names of weights and inner products of the tasks' gradients of them.

        Weights of one group that are applied to the same inputs (query, key and value of a layer)
        are computed together, under the name of the first.

        Args:
            group: The group of a parameter by its name.
        """
        calls: dict[str, list[Factors]] = defaultdict(list)
        for factors in self._factors:
            calls[factors.name].append(factors)
        by_inputs: dict[tuple[str | int, ...], list[Factors]] = defaultdict(list)
        for name, same_weight in calls.items():
            addresses = [factors.inputs.data_ptr() for factors in same_weight]
            by_inputs[group(name), *addresses].append(_joined(same_weight))
        for together in by_inputs.values():
            yield together[0].name, _gramian(together, self._tasks)

    def products(self, weights: Weights) -> Iterator[tuple[str, Tensor]]:
        """Yields names of weights and the weighted sums of the tasks' gradients of them.

        The factors are not changed: layers whose outputs are added have one gradient in common.

        Args:
            weights: The weights for each weight matrix.
        """
        for name, inputs, grad_output, ranges in self._factors:
            weighted, factors = grad_output.clone(), weights(name).to(grad_output.dtype)
            for task, start, stop in ranges:
                weighted[start:stop] *= factors[task]
            yield name, weighted.t() @ inputs


def gramian_cost(tokens: int, out: int, width: int, tasks: int) -> tuple[int, bool]:
    """The cheaper way to compute the inner products of a weight's gradients from their factors.

    Either compare all pairs of tokens, since <a b^T, c d^T> = <a, c><b, d>, or compute each task's
    gradient.

    Args:
        tokens: Tokens of the batch.
        out: Output size of the layer.
        width: Input size of the layer.
        tasks: Number of tasks.

    Returns:
        The number of multiplications, and whether pairs of tokens are compared.
    """
    pairs = tokens * tokens * (out + width) // 2
    gradients = out * width * (tokens + tasks**2)
    return min(pairs, gradients), pairs < gradients


def _joined(calls: list[Factors]) -> Factors:
    """The factors of all calls of one layer as one, with the tokens in the order of the tasks."""
    order = sorted(
        (task, call, start, stop)
        for call, factors in enumerate(calls)
        for task, start, stop in factors.ranges
    )
    positions = [position[2:] for position in order]
    if len(calls) == 1 and positions == sorted(positions):
        return calls[0]._replace(ranges=sorted(calls[0].ranges))
    inputs = torch.cat([calls[call].inputs[start:stop] for _, call, start, stop in order])
    grad_output = torch.cat([calls[call].grad_output[start:stop] for _, call, start, stop in order])
    sizes: dict[int, int] = defaultdict(int)
    for task, _, start, stop in order:
        sizes[task] += stop - start
    ends = list(accumulate(sizes.values()))
    ranges = [
        TaskRange(task, end - size, end)
        for (task, size), end in zip(sizes.items(), ends, strict=True)
    ]
    return Factors(calls[0].name, inputs, grad_output, ranges)


def _gramian(group: list[Factors], tasks: int) -> Tensor:
    """Inner products of the tasks' gradients of weights that are applied to the same inputs."""
    inputs, ranges = group[0].inputs, group[0].ranges
    out = sum(factors.grad_output.shape[1] for factors in group)
    if gramian_cost(len(inputs), out, inputs.shape[1], tasks)[1]:
        return _gramian_from_pairs(group, tasks)
    total = inputs.new_zeros(tasks, tasks, dtype=torch.float)
    for factors in group:
        gradients = inputs.new_zeros(tasks, factors.grad_output.shape[1], inputs.shape[1])
        for task, start, stop in ranges:
            gradients[task].addmm_(factors.grad_output[start:stop].t(), inputs[start:stop])
        total += gramian(gradients.flatten(1))
    return total


def _gramian_from_pairs(group: list[Factors], tasks: int) -> Tensor:
    inputs, ranges = group[0].inputs, group[0].ranges
    total = inputs.new_zeros(tasks, tasks, dtype=torch.float)
    task_of_token = torch.cat([torch.full((stop - start,), task) for task, start, stop in ranges])
    task_of_token = task_of_token.to(inputs.device)
    for task, start, stop in ranges:  # the matrix is symmetric: from the diagonal onwards is enough
        pairs = inputs[start:stop] @ inputs[start:].t()
        pairs *= sum(
            factors.grad_output[start:stop] @ factors.grad_output[start:].t() for factors in group
        )
        row = total.new_zeros(tasks)
        row.index_add_(0, task_of_token[start:], pairs.float().sum(0))
        total[task] += row
        row[task] = 0
        total[:, task] += row
    return total
