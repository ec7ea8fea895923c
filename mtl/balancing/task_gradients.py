"""The gradient of each task for the shared parameters, from one backward pass over a mixed batch.

The technique is that of per-example gradients (Goodfellow 2015, "Efficient per-example gradient
computations"): a task's gradient is the sum over its examples. We know of no publication that uses
it for gradient surgery.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn

from mtl.balancing.capture_state import Spans
from mtl.balancing.dense_gradients import DenseGradients, Weights, accumulate_grad
from mtl.balancing.embedding_gradients import EmbeddingGradients
from mtl.balancing.linear_factors import Factors, LinearFactors, TaskRange, gramian_cost
from mtl.batch import Batch, length_groups
from mtl.modules.families import in_embeddings, layer_index
from mtl.training.distributed import several_processes

Mode = Literal["auto", "stored", "two_pass"]

# Multiplications that take as long as moving one number to memory and back; measured with
# experiments/bench/gradients.py.
MULTIPLICATIONS_PER_MOVE = 32


class TaskGradients:
    """Collects the gradients of one backward pass (a `GradientSink`) and combines them.

    Call `start` before the pass, then `gramians`, then `write`, then `clear`.

    `stored` keeps one copy of each linear weight's gradient per task: (tasks, out, in). `two_pass`
    keeps the two factors of each gradient, and multiplies them when the weights of the tasks are
    known. It needs no copies, but its inner products are expensive if a batch has many tokens.
    `auto` chooses the one that is estimated to be faster.

    Args:
        shared: The shared parameters by name.
        mode: `stored`, `two_pass` or `auto`.
        group: The group of a parameter by its name; default: `layer_group`.
    """

    def __init__(
        self,
        shared: dict[str, nn.Parameter],
        mode: Mode = "auto",
        group: Callable[[str], str] | None = None,
    ) -> None:
        self.shared, self.mode, self._group = shared, mode, group or layer_group
        self._names = {id(parameter): name for name, parameter in shared.items()}
        self._task_index: dict[str, int] = {}
        self._keeps_factors = False
        self._dense = DenseGradients(shared)
        self._embeddings = EmbeddingGradients(shared)
        self._factors = LinearFactors()

    def start(self, tasks: Sequence[str], tokens: int) -> None:
        """Forgets the last backward pass.

        Args:
            tasks: The tasks of this pass, in the order of the Gramians' rows.
            tokens: Number of tokens in this pass, on which the choice of `auto` depends.
        """
        self._task_index = {task: index for index, task in enumerate(tasks)}
        self._dense.start(len(tasks))
        self._embeddings.start(len(tasks))
        self._factors.start(len(tasks))
        self._keeps_factors = self.mode == "two_pass" or (
            self.mode == "auto" and not several_processes() and self._factors_are_faster(tokens)
        )

    def linear(
        self, weight: Tensor, bias: Tensor | None, inputs: Tensor, grad_output: Tensor, spans: Spans
    ) -> None:
        """Collects the gradients of a linear layer (`GradientSink.linear`)."""
        tokens = grad_output[0].numel() // grad_output.shape[-1]  # per example
        grad_output, inputs = grad_output.flatten(0, -2), inputs.flatten(0, -2)
        if bias is not None and bias.requires_grad:
            gradients = [
                grad_output[start * tokens : stop * tokens].sum(0) for _, start, stop in spans
            ]
            self.vector(bias, gradients, spans)
        if not weight.requires_grad:
            return
        ranges = [
            TaskRange(self._task_index[task], start * tokens, stop * tokens)
            for task, start, stop in spans
            if task in self._task_index
        ]
        name = self._names[id(weight)]
        if self._keeps_factors:
            self._factors.add(Factors(name, inputs.detach(), grad_output, ranges))
            return
        for task, start, stop in ranges:
            self._dense.add_product(name, task, inputs[start:stop], grad_output[start:stop])

    def vector(self, parameter: Tensor, gradients: Sequence[Tensor], spans: Spans) -> None:
        """Collects the gradients of a small parameter (`GradientSink.vector`)."""
        name = self._names[id(parameter)]
        for gradient, span in zip(gradients, spans, strict=True):
            if span.task in self._task_index:
                self._dense.add(name, self._task_index[span.task], gradient)

    def embedding(self, weight: Tensor, ids: Tensor, grad_output: Tensor, spans: Spans) -> None:
        """Collects the gradient of an embedding table (`GradientSink.embedding`)."""
        tasks = torch.empty(len(ids), dtype=torch.long, device=ids.device)
        for task, start, stop in spans:
            tasks[start:stop] = self._task_index[task]
        self._embeddings.add(self._names[id(weight)], tasks, ids, grad_output)

    def gramians(self) -> dict[str, Tensor]:
        """Computes the inner products of the tasks' gradients.

        With several processes, the gradients are first averaged over them. The products are then
        the same in every process, and equal to those of one process with the complete batch.

        Returns:
            For each group of parameters its inner products, shape (tasks, tasks), fp32. Their sum
            gives the inner products of the complete gradients.
        """
        self._dense.complete()
        self._embeddings.complete()
        if several_processes():
            self._dense.average()
            self._embeddings.average()
        parts = (
            self._dense.gramians(),
            self._embeddings.gramians(),
            self._factors.gramians(self._group),
        )
        return summed_by_group(chain(*parts), self._group)

    def write(self, weights: Weights) -> None:
        """Adds the weighted sum of the tasks' gradients to `.grad`.

        Args:
            weights: The weights for each parameter.
        """
        self._dense.write(weights)
        self._embeddings.write(weights)
        for name, gradient in self._factors.products(weights):
            accumulate_grad(self.shared[name], gradient)

    def clear(self) -> None:
        """Frees the tensors of the pass, except for the buffers that the next one reuses."""
        self._factors.clear()
        self._embeddings.clear()

    def _factors_are_faster(self, tokens: int) -> bool:
        shapes = [
            parameter.shape
            for name, parameter in self.shared.items()
            if parameter.ndim == 2 and not in_embeddings(name)
        ]
        tasks = len(self._task_index)
        copies = MULTIPLICATIONS_PER_MOVE * tasks * sum(out * width for out, width in shapes)
        return sum(gramian_cost(tokens, out, width, tasks)[0] for out, width in shapes) < copies


def padded_tokens(batch: Batch) -> int:
    """Number of tokens that a forward pass over a batch computes, including padding."""
    return sum(
        (examples.stop - examples.start) * length for examples, length in length_groups(batch)
    )


def summed_by_group(
    gramians: Iterable[tuple[str, Tensor]], group: Callable[[str], str]
) -> dict[str, Tensor]:
    """The sums of the inner products of parameters, by group.

    Args:
        gramians: Names of parameters and inner products of the tasks' gradients of them.
        group: The group of a parameter by its name.
    """
    totals: dict[str, Tensor] = {}
    for name, gramian in gramians:
        key = group(name)
        totals[key] = totals[key] + gramian if key in totals else gramian
    return totals


def layer_group(name: str) -> str:
    """The part of the model that a parameter belongs to: `embeddings`, `layer 3` or `other`."""
    index = layer_index(name)
    if index is not None:
        return f"layer {index}"
    return "embeddings" if in_embeddings(name) else "other"
