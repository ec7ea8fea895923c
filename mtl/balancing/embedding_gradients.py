"""Stores the gradient of each task for embedding tables: only the rows that occur in the batch."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import compress
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtl.balancing.dense_gradients import Weights
from mtl.balancing.inner_products import gramian
from mtl.training.distributed import gather_concatenated, used_by_any_process, world_size


class SparseGradient(NamedTuple):
    """Rows of the tasks' gradients of a table; all other rows are zero.

    Attributes:
        tasks: Index of each row's task, shape (rows,).
        ids: Index of each row in the table, shape (rows,).
        values: The rows, shape (rows, H), fp32.
    """

    tasks: Tensor
    ids: Tensor
    values: Tensor

    def coalesced(self, table_size: int) -> "SparseGradient":
        """Sums the rows that have the same task and the same index."""
        keys, inverse = (self.tasks * table_size + self.ids).unique(return_inverse=True)
        sums = self.values.new_zeros(len(keys), self.values.shape[1])
        sums.index_add_(0, inverse, self.values)
        return SparseGradient(keys // table_size, keys % table_size, sums)

    def gramian(self, tasks: int) -> Tensor:
        """Inner products of the tasks' gradients, shape (tasks, tasks); rows must be coalesced."""
        ids, inverse = self.ids.unique(return_inverse=True)
        if tasks * len(ids) <= 8 * len(self.ids):  # most tasks have most rows: compute it densely
            dense = self.values.new_zeros(tasks * len(ids), self.values.shape[1])
            dense.index_copy_(0, self.tasks * len(ids) + inverse, self.values)
            return gramian(dense.view(tasks, -1))
        one_hot = nn.functional.one_hot(self.tasks, tasks).to(self.values.dtype)
        same_row = self.ids.unsqueeze(1) == self.ids
        return one_hot.t() @ ((self.values @ self.values.t()) * same_row) @ one_hot


class EmbeddingGradients:
    """Gradients of embedding tables.

    Args:
        shared: The shared parameters by name.
    """

    def __init__(self, shared: dict[str, nn.Parameter]) -> None:
        self._shared = shared
        self._tasks = 0
        self._parts: dict[str, list[SparseGradient]] = defaultdict(list)
        self._gradients: dict[str, SparseGradient] = {}

    def start(self, tasks: int) -> None:
        """Forgets the gradients of the last step.

        Args:
            tasks: Number of tasks in this step.
        """
        self._tasks = tasks
        self.clear()

    def clear(self) -> None:
        """Frees the gradients."""
        self._parts.clear()
        self._gradients.clear()

    def add(self, name: str, tasks: Tensor, ids: Tensor, grad_output: Tensor) -> None:
        """Adds the gradient of looked-up rows.

        Args:
            name: Name of the table.
            tasks: Index of each example's task, shape (examples,).
            ids: Indices of the rows, shape (examples, ...).
            grad_output: Their gradients, shape (examples, ..., H).
        """
        tasks = tasks.view(-1, *[1] * (ids.ndim - 1)).expand_as(ids).flatten()
        self._parts[name].append(
            SparseGradient(tasks, ids.flatten(), grad_output.flatten(0, -2).float())
        )

    def complete(self) -> None:
        """Sums what was added to the same row of the same task."""
        for name, parts in self._parts.items():
            joined = SparseGradient(*map(torch.cat, zip(*parts, strict=True)))
            self._gradients[name] = joined.coalesced(len(self._shared[name]))

    def average(self) -> None:
        """Replaces the gradients by their mean over all processes."""
        device = next(iter(self._shared.values())).device
        used = used_by_any_process([name in self._parts for name in self._shared], device)
        for name in compress(self._shared, used):
            table = self._shared[name]
            none = torch.zeros(0, dtype=torch.long, device=device)
            local = self._gradients.get(name)
            local = local or SparseGradient(none, none, table.new_zeros(0, table.shape[1]))
            tasks, ids, values = map(gather_concatenated, local)
            everything = SparseGradient(tasks, ids, values / world_size())
            self._gradients[name] = everything.coalesced(len(table))

    def gramians(self) -> Iterator[tuple[str, Tensor]]:
        """Yields the name of each table and the inner products of its gradients."""
        for name, gradient in self._gradients.items():
            yield name, gradient.gramian(self._tasks)

    def write(self, weights: Weights) -> None:
        """Adds the weighted sum of the tasks' gradients to `.grad`."""
        for name, (tasks, ids, values) in self._gradients.items():
            table = self._shared[name]
            if table.grad is None:
                table.grad = torch.zeros_like(table)
            table.grad.index_add_(
                0, ids, (values * weights(name)[tasks].unsqueeze(1)).to(table.dtype)
            )
