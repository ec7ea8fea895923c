"""Every task's gradient of the shared parameters, from one backward pass over the mixed batch.

Source: nobody's yet that we know of; per-example gradients are had in the same way (Goodfellow 2015, "Efficient per-example
gradient computations"), of which a task's is the sum over its rows.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

import torch
from torch import Tensor, distributed, nn

from mtl.modules.task_context import Span

Mode = Literal["auto", "stored", "two_pass"]

# Multiplications that take as long as moving one number to memory and back; measured (experiments/bench/gradients.py).
MOVE = 32
BLOCK = 4096


class Product(NamedTuple):
    """What a linear layer's gradient is a product of.

    Attributes:
        weight: The weight, (out, in).
        inputs: What it was multiplied with, (tokens, in).
        delta: The gradient of its output, (tokens, out).
        spans: Whose tokens these are.
    """

    weight: Tensor
    inputs: Tensor
    delta: Tensor
    spans: list[tuple[int, int, int]]


class TaskGradients:
    """Keeps the parts of one backward pass, and makes of them the tasks' inner products and one combined gradient.

    `stored` keeps a copy of each linear weight's gradient for each task: (tasks, out, in). `two_pass` keeps the two factors
    of every product instead, and multiplies again once the weights are known: no copies, but inner products cost the more
    the more tokens a batch has. `auto` takes what moves and multiplies less.

    Args:
        shared: The shared parameters by name.
        mode: `stored`, `two_pass` or `auto`.
    """

    def __init__(self, shared: dict[str, nn.Parameter], mode: Mode = "auto") -> None:
        self.shared, self.mode = shared, mode
        self.place: dict[str, int] = {}
        self._name = {id(parameter): name for name, parameter in shared.items()}
        self._buffers: dict[
            str, Tensor
        ] = {}  # kept from step to step: memory that is asked for anew is slow
        self._written: dict[str, set[int]] = {}
        self._products: list[Product] = []
        self._sparse: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = defaultdict(list)

    def start(self, tasks: Sequence[str], tokens: int) -> None:
        """Forgets the last pass.

        Args:
            tasks: The tasks of this pass, whose places in the Gramian are theirs in this list.
            tokens: Tokens of the pass, from which `auto` decides.
        """
        self.place = {task: place for place, task in enumerate(tasks)}
        self._written, self._products = {}, []
        self._sparse.clear()
        self._factors = self.mode == "two_pass" or (
            self.mode == "auto" and not several_processes() and self._factors_are_faster(tokens)
        )

    # What the taps hand over.

    def linear(
        self,
        weight: Tensor,
        bias: Tensor | None,
        inputs: Tensor,
        delta: Tensor,
        rows: tuple[Span, ...],
    ) -> None:
        """A product's factors, rows first."""
        tokens = delta[0].numel() // delta.shape[-1]  # of a row
        delta, inputs = delta.flatten(0, -2), inputs.flatten(0, -2)
        if bias is not None and bias.requires_grad:
            self.vector(
                bias,
                [delta[start * tokens : stop * tokens].sum(0) for _, start, stop in rows],
                rows,
            )
        spans = [
            (self.place[task], start * tokens, stop * tokens)
            for task, start, stop in rows
            if task in self.place
        ]
        if not weight.requires_grad:
            return
        if self._factors:
            self._products.append(Product(weight, inputs, delta, spans))
            return
        left, right = (inputs, delta) if _lies(weight) else (delta, inputs)
        for task, start, stop in spans:
            self._add(weight, task, left[start:stop].t(), right[start:stop])

    def vector(self, parameter: Tensor, parts: Sequence[Tensor], rows: tuple[Span, ...]) -> None:
        """The gradient of a vector (or of what is as small), for each span; of tasks that are not present it is zero."""
        for part, span in zip(parts, rows, strict=True):
            if span.task not in self.place:
                continue
            buffer, fresh = self._buffer(parameter, self.place[span.task], part.dtype)
            buffer.copy_(part) if fresh else buffer.add_(part)

    def embedding(self, weight: Tensor, ids: Tensor, delta: Tensor, rows: tuple[Span, ...]) -> None:
        """Rows of a table: only those that occur are kept."""
        tasks = torch.empty(len(ids), dtype=torch.long, device=ids.device)
        for task, start, stop in rows:
            tasks[start:stop] = self.place[task]
        tasks = tasks.view(-1, *[1] * (ids.ndim - 1)).expand_as(ids)
        self._sparse[self._name[id(weight)]].append(
            (tasks.flatten(), ids.flatten(), delta.flatten(0, -2).float())
        )

    # What is made of it.

    def gramians(self) -> dict[str, Tensor]:
        """Inner products of the tasks' gradients, fp32, (tasks, tasks), for each group of parameters; their sum is the whole.

        With several processes the gradients are their mean before anything else: the weights that follow are the same
        everywhere, and those of one process with the whole batch.
        """
        self._settle()
        found: dict[str, Tensor] = {}

        def add(name: str, gramian: Tensor) -> None:
            group = layer_group(name)
            found[group] = found[group] + gramian if group in found else gramian

        for name in self._written:
            rows = self._buffers[name][: len(self.place)].flatten(1)
            add(name, _gramian(rows))
        for name, [(tasks, ids, delta)] in self._sparse.items():
            add(name, self._between(tasks, ids, delta))
        for products in self._by_inputs():
            add(self._name[id(products[0].weight)], self._of_products(products))
        return found

    def write(self, weights: Tensor) -> None:
        """Adds the combination of the tasks' gradients to `.grad`.

        Args:
            weights: For each task of the pass its weight, (tasks,).
        """
        weights = weights.float()
        for name in self._written:
            rows = self._buffers[name][: len(self.place)]
            combined = (weights.to(rows.dtype) @ rows.flatten(1)).view(rows.shape[1:])
            parameter = self.shared[name]
            _accumulate(parameter, combined.t().contiguous() if _lies(parameter) else combined)
        for name, [(tasks, ids, delta)] in self._sparse.items():
            parameter = self.shared[name]
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.index_add_(
                0, ids, (delta * weights[tasks].unsqueeze(1)).to(parameter.dtype)
            )
        for weight, inputs, delta, spans in self._products:
            for task, start, stop in spans:
                delta[start:stop] *= weights[task].to(delta.dtype)
            _accumulate(self.shared[self._name[id(weight)]], delta.t() @ inputs)

    # How.

    def _buffer(self, parameter: Tensor, task: int, dtype: torch.dtype) -> tuple[Tensor, bool]:
        """Where a task's gradient of a parameter goes, and whether nothing has been written there in this pass."""
        name = self._name[id(parameter)]
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < len(self.place) or buffer.dtype != dtype:
            shape = parameter.shape[::-1] if _lies(parameter) else parameter.shape
            buffer = self._buffers[name] = parameter.new_empty(
                (len(self.place), *shape), dtype=dtype
            )
        written = self._written.setdefault(name, set())
        fresh = task not in written
        written.add(task)
        return buffer[task], fresh

    def _add(self, weight: Tensor, task: int, left: Tensor, right: Tensor) -> None:
        buffer, fresh = self._buffer(weight, task, left.dtype)
        if fresh:
            torch.mm(left, right, out=buffer)
        else:
            buffer.addmm_(left, right)

    def _factors_are_faster(self, tokens: int) -> bool:
        shapes = [
            parameter.shape
            for name, parameter in self.shared.items()
            if parameter.ndim == 2 and "embedding" not in name
        ]
        copies = MOVE * len(self.place) * sum(out * width for out, width in shapes)
        return sum(self._inner_cost(tokens, *shape)[0] for shape in shapes) < copies

    def _inner_cost(self, tokens: int, out: int, width: int) -> tuple[int, bool]:
        """Multiplications for the inner products of a product, and whether tokens are compared (or gradients made)."""
        compared = tokens * tokens * (out + width) // 2
        made = out * width * (tokens + len(self.place) ** 2)
        return min(compared, made), compared < made

    def _settle(self) -> None:
        """Zeros where a task had no part; a table's rows once for each task; the mean over processes."""
        for name, written in self._written.items():
            for task in set(range(len(self.place))) - written:
                self._buffers[name][task].zero_()
        for name, parts in self._sparse.items():
            tasks, ids, delta = (torch.cat(columns) for columns in zip(*parts, strict=True))
            self._sparse[name] = [_coalesced(tasks, ids, delta, len(self.shared[name]))]
        if several_processes():
            self._average()

    def _average(self) -> None:
        """The mean of all processes' gradients, in place of this one's."""
        world, count = distributed.get_world_size(), len(self.place)
        device = next(iter(self.shared.values())).device
        used = [
            [name in self._written for name in self.shared],
            [name in self._sparse for name in self.shared],
        ]
        dense, sparse = _reduced(
            torch.tensor(used, device=device).long()
        ).tolist()  # a process may hold no row
        for place, (name, parameter) in enumerate(self.shared.items()):
            if dense[place]:
                if name not in self._written:
                    for task in range(count):
                        self._buffer(parameter, task, parameter.dtype)[0].zero_()
                mean = _reduced(self._buffers[name][:count].float()) / world
                self._buffers[name][:count] = mean
            if sparse[place]:
                none = torch.zeros(0, dtype=torch.long, device=device)
                parts = self._sparse.get(
                    name, [(none, none, parameter.new_zeros(0, parameter.shape[1]))]
                )[0]
                tasks, ids, delta = map(_gathered, parts)
                self._sparse[name] = [_coalesced(tasks, ids, delta / world, len(parameter))]

    def _between(self, tasks: Tensor, ids: Tensor, delta: Tensor) -> Tensor:
        """Inner products of sparse gradients: rows of a table meet where their numbers are the same."""
        count = len(self.place)
        places, of_place = ids.unique(return_inverse=True)
        if count * len(places) <= 8 * len(ids):  # most tasks have most rows: as dense ones
            dense = delta.new_zeros(count * len(places), delta.shape[1]).index_copy_(
                0, tasks * len(places) + of_place, delta
            )
            return _gramian(dense.view(count, -1))
        whose = nn.functional.one_hot(tasks, count).to(delta.dtype)
        return whose.t() @ ((delta @ delta.t()) * (ids.unsqueeze(1) == ids)) @ whose

    def _by_inputs(self) -> list[list[Product]]:
        """Products by weight, those of several passes one after the other, and such of the same inputs together."""
        merged: dict[int, list[Product]] = defaultdict(list)
        for product in self._products:
            merged[id(product.weight)].append(product)
        together: dict[tuple[int, ...], list[Product]] = defaultdict(list)
        for products in merged.values():
            together[tuple(product.inputs.data_ptr() for product in products)].append(
                self._joined(products)
            )
        return list(together.values())

    def _joined(self, products: list[Product]) -> Product:
        """One product, its tokens in the tasks' order."""
        order = sorted(
            (task, which, start, stop)
            for which, one in enumerate(products)
            for task, start, stop in one.spans
        )
        if len(products) == 1 and [place[2:] for place in order] == sorted(
            place[2:] for place in order
        ):
            return products[0]._replace(spans=sorted(products[0].spans))
        inputs = torch.cat([products[which].inputs[start:stop] for _, which, start, stop in order])
        delta = torch.cat([products[which].delta[start:stop] for _, which, start, stop in order])
        sizes: dict[int, int] = defaultdict(int)
        for task, _, start, stop in order:
            sizes[task] += stop - start
        ends = list(accumulate(sizes.values()))
        spans = [
            (task, end - size, end) for (task, size), end in zip(sizes.items(), ends, strict=True)
        ]
        return Product(products[0].weight, inputs, delta, spans)

    def _of_products(self, products: list[Product]) -> Tensor:
        """Inner products of the tasks' gradients of weights with the same inputs."""
        inputs, spans, count = products[0].inputs, products[0].spans, len(self.place)
        gramian = inputs.new_zeros(count, count, dtype=torch.float)
        out = sum(len(product.weight) for product in products)
        if not self._inner_cost(len(inputs), out, inputs.shape[1])[1]:
            for product in products:
                made = inputs.new_zeros(count, *product.weight.shape)
                for task, start, stop in spans:
                    made[task].addmm_(product.delta[start:stop].t(), inputs[start:stop])
                gramian += _gramian(made.flatten(1))
            return gramian
        whose = torch.cat([torch.full((stop - start,), task) for task, start, stop in spans]).to(
            inputs.device
        )
        for task, start, stop in spans:  # the part above the diagonal is enough
            alike = inputs[start:stop] @ inputs[start:].t()
            alike *= sum(
                product.delta[start:stop] @ product.delta[start:].t() for product in products
            )
            row = gramian.new_zeros(count).index_add_(0, whose[start:], alike.float().sum(0))
            gramian[task] += row
            row[task] = 0
            gramian[:, task] += row
        return gramian


def layer_group(name: str) -> str:
    """The part of a model that a parameter belongs to: `embeddings`, `layer 3`, or `other`."""
    if found := re.search(r"\blayers?\.(\d+)\.", name):
        return f"layer {found[1]}"
    return "embeddings" if "embedding" in name else "other"


def slow_task_gradients(
    losses: Tensor, factors: Tensor, shared: dict[str, nn.Parameter]
) -> list[tuple[Tensor | None, ...]]:
    """Every task's gradient of the shared parameters by a backward pass for each task; the graph stays."""
    one = torch.eye(len(losses), device=losses.device) * factors.unsqueeze(1)
    ask: Callable[..., tuple[Tensor | None, ...]] = torch.autograd.grad
    return [
        ask(losses, list(shared.values()), row, retain_graph=True, allow_unused=True) for row in one
    ]


def _lies(parameter: Tensor) -> bool:
    """Whether a matrix's parts are kept transposed: a product of few tokens is faster with more rows than columns."""
    return parameter.ndim == 2 and parameter.shape[0] < parameter.shape[1]


def _gramian(rows: Tensor) -> Tensor:
    """Inner products of a few long rows, in blocks that fit a cache: twice as fast as one product."""
    rows = rows.float()
    whole = rows.shape[1] // BLOCK * BLOCK
    blocks = (
        rows[:, :whole].unflatten(1, (-1, BLOCK)).transpose(0, 1)
        if whole
        else rows.new_zeros(0, len(rows), BLOCK)
    )
    rest = rows[:, whole:]
    return torch.bmm(blocks, blocks.transpose(1, 2)).sum(0) + rest @ rest.t()


def _accumulate(parameter: nn.Parameter, gradient: Tensor) -> None:
    gradient = gradient.to(parameter.dtype)
    if parameter.grad is None:
        parameter.grad = gradient
    else:
        parameter.grad += gradient


def _coalesced(
    tasks: Tensor, ids: Tensor, delta: Tensor, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of what belongs to the same task and row of the table."""
    keys, place = (tasks * size + ids).unique(return_inverse=True)
    summed = delta.new_zeros(len(keys), delta.shape[1]).index_add_(0, place, delta)
    return keys // size, keys % size, summed


def several_processes() -> bool:
    """Whether this is one of several processes that train together."""
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def _reduced(tensor: Tensor) -> Tensor:
    distributed.all_reduce(tensor)
    return tensor


def _gathered(tensor: Tensor) -> Tensor:
    """What all processes have, one after the other; they may have unequally much."""
    sizes = [
        torch.zeros(1, dtype=torch.long, device=tensor.device)
        for _ in range(distributed.get_world_size())
    ]
    distributed.all_gather(sizes, torch.tensor([len(tensor)], device=tensor.device))
    counts = [int(size) for size in sizes]
    if not max(counts):
        return tensor
    padded = tensor.new_zeros(max(counts), *tensor.shape[1:])
    padded[: len(tensor)] = tensor
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
