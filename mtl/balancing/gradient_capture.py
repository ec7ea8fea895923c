"""Linear layers, layer norms and embeddings that can keep every task's part of their weights' gradient apart.

In a batch of several tasks every row belongs to one task, so the gradient that arrives at a layer's output carries, row by
row, every task's own. The weights' gradient is a sum over rows: summed task by task it costs no more multiplications.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl.modules.task_context import Span, current_spans

_norm, _norm_backward = torch.ops.aten.native_layer_norm, torch.ops.aten.native_layer_norm_backward


class GradientSink(Protocol):
    """Where the parts of a backward pass go. Rows stand first in every tensor; spans say whose they are."""

    def linear(
        self,
        weight: Tensor,
        bias: Tensor | None,
        inputs: Tensor,
        delta: Tensor,
        rows: tuple[Span, ...],
    ) -> None:
        """The gradient is delta (..., out) transposed times inputs (..., in), and the sum of delta."""

    def vector(self, parameter: Tensor, parts: list[Tensor], rows: tuple[Span, ...]) -> None:
        """The gradient of a vector, for each span."""

    def embedding(self, weight: Tensor, ids: Tensor, delta: Tensor, rows: tuple[Span, ...]) -> None:
        """The gradient has delta (rows, length, H) at the places `ids` (rows, length)."""


class GradientCapture:
    """The layers of a model whose gradients can be kept by task.

    Outside of `listening`, and where no gradient is asked for, the layers are what they were. While listening they
    remember whose rows pass (`mtl.modules.task_context`). A backward pass with a `keeper` hands it each task's part and leaves `.grad`
    alone; one without gives ordinary gradients.

    Attributes:
        listening: Whether a training step is under way.
        keeper: Where the parts of a backward pass go; None for ordinary gradients.
        strangers: Names of layers that were used on something else than the rows that pass, so that no part of their
            gradient belongs to a task.
    """

    def __init__(self, model: nn.Module, shared: dict[str, nn.Parameter]) -> None:
        self.listening = False
        self.keeper: GradientSink | None = None
        self.strangers: set[str] = set()
        self._cast: dict[tuple[int, torch.dtype], Tensor] = {}
        known = {id(parameter) for parameter in shared.values()}
        self._tapped: list[nn.Module] = []
        self._spread = list(shared.values())
        for name, parameter in shared.items():
            parameter.spread = partial(_spread, parameter, self, name)  # type: ignore[attr-defined]
        for name, module in model.named_modules():
            forward = _FORWARDS.get(type(module))
            if forward and any(
                id(parameter) in known for parameter in module.parameters(recurse=False)
            ):
                module.forward = partial(forward, module, self, name)  # type: ignore[method-assign]
                self._tapped.append(module)

    def remove(self) -> None:
        """Gives the layers back."""
        for module in self._tapped:
            del module.forward
        for parameter in self._spread:
            del parameter.spread  # type: ignore[attr-defined]
        self._tapped, self._spread = [], []

    @contextmanager
    def input_gradients_only(self) -> Iterator[None]:
        """Within, a backward pass computes no weight's gradient."""
        self.keeper, before = _Nowhere(), self.keeper
        try:
            yield
        finally:
            self.keeper = before

    def start(self) -> None:
        """Listens to a step; weights may have changed since the last one."""
        self.listening = True
        self._cast.clear()

    def rows(self, name: str, count: int, broadcast: bool = False) -> tuple[Span, ...]:
        """Whose `count` rows these are; notes the layer as a stranger if they are not those that pass."""
        passing = current_spans()
        if not passing or (passing[-1].stop != count and not (broadcast and count == 1)):
            self.strangers.add(name)
            return ()
        return passing

    def cast(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """A weight in the precision of products, made once a step."""
        if weight.dtype == dtype:
            return weight
        key = id(weight), dtype
        if key not in self._cast:
            self._cast[key] = weight.detach().to(dtype)
        return self._cast[key]

    def holds(self, node: Any, place: int) -> bool:
        """Whether an edge of the graph leads from a tapped layer to its own weights."""
        return isinstance(node, _SPREAD) or (
            isinstance(node, _LAYERS) and place > 0
        )  # place 0: what passes


class _Nowhere:
    """Keeps nothing."""

    def linear(self, *parts: Any) -> None: ...

    vector = embedding = linear


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        taps: GradientCapture,
        rows: tuple[Span, ...],
    ) -> Tensor:
        kind = inputs.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else inputs.dtype
        inputs = inputs.to(dtype)
        ctx.save_for_backward(inputs)
        # Not saved: of a checkpointed layer the backward pass would see another tensor than the parameter.
        ctx.weight, ctx.bias, ctx.taps, ctx.rows = weight, bias, taps, rows
        return F.linear(
            inputs, taps.cast(weight, dtype), None if bias is None else taps.cast(bias, dtype)
        )

    @staticmethod
    def backward(ctx: Any, *deltas: Tensor) -> Any:
        (delta,), (inputs,), weight, bias = deltas, ctx.saved_tensors, ctx.weight, ctx.bias
        down = delta @ ctx.taps.cast(weight, delta.dtype) if ctx.needs_input_grad[0] else None
        if ctx.taps.keeper is not None:
            ctx.taps.keeper.linear(weight, bias, inputs, delta, ctx.rows)
            return down, None, None, None, None
        flat = delta.flatten(0, -2)
        own = flat.t() @ inputs.flatten(0, -2) if ctx.needs_input_grad[1] else None
        shift = flat.sum(0) if bias is not None and ctx.needs_input_grad[2] else None
        return down, own, shift, None, None


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        eps: float,
        taps: GradientCapture,
        rows: tuple[Span, ...],
    ) -> Tensor:
        if inputs.device.type != "cpu" and torch.is_autocast_enabled(inputs.device.type):
            inputs = inputs.float()  # as autocast does it there
        output, mean, scale = _norm(inputs, weight.shape, weight, bias, eps)
        ctx.save_for_backward(inputs, mean, scale)
        ctx.weight, ctx.bias, ctx.taps, ctx.rows = weight, bias, taps, rows
        return output

    @staticmethod
    def backward(ctx: Any, *deltas: Tensor) -> Any:
        (delta,), (inputs, mean, scale), weight, bias = (
            deltas,
            ctx.saved_tensors,
            ctx.weight,
            ctx.bias,
        )
        wanted = [True, weight.requires_grad, bias is not None and bias.requires_grad]
        if ctx.taps.keeper is None:
            found = _norm_backward(delta, inputs, weight.shape, mean, scale, weight, bias, wanted)
            return *found, None, None, None
        parts = []
        for _, *place in ctx.rows:
            own = slice(*place)
            given = (
                delta[own],
                inputs[own],
                weight.shape,
                mean[own],
                scale[own],
                weight,
                bias,
                wanted,
            )
            parts.append(_norm_backward(*given))
        down, weights, biases = zip(*parts, strict=True)
        if wanted[1]:
            ctx.taps.keeper.vector(weight, weights, ctx.rows)
        if wanted[2]:
            ctx.taps.keeper.vector(bias, biases, ctx.rows)
        return torch.cat(down) if len(down) > 1 else down[0], None, None, None, None, None


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        ids: Tensor,
        weight: Tensor,
        padding: int | None,
        taps: GradientCapture,
        rows: tuple[Span, ...],
    ) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.weight, ctx.padding, ctx.taps, ctx.rows = weight, padding, taps, rows
        return F.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *deltas: Tensor) -> Any:
        (delta,), (ids,), weight = deltas, ctx.saved_tensors, ctx.weight
        if ctx.taps.keeper is None:
            padding = -1 if ctx.padding is None else ctx.padding
            own = torch.ops.aten.embedding_dense_backward(
                delta, ids, weight.shape[0], padding, False
            )
            return None, own, None, None, None
        if ctx.padding is not None:
            delta = delta.masked_fill((ids == ctx.padding).unsqueeze(-1), 0.0)
        ctx.taps.keeper.embedding(weight, ids, delta, ctx.rows)
        return None, None, None, None, None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, count: int, parameter: Tensor, taps: GradientCapture, rows: tuple[Span, ...]
    ) -> Tensor:
        ctx.parameter, ctx.taps, ctx.rows = parameter, taps, rows
        return parameter.expand(count, *parameter.shape)

    @staticmethod
    def backward(ctx: Any, *deltas: Tensor) -> Any:
        (delta,), parameter = deltas, ctx.parameter
        if ctx.taps.keeper is None:
            return None, delta.sum(0), None, None
        ctx.taps.keeper.vector(
            parameter, [delta[start:stop].sum(0) for _, start, stop in ctx.rows], ctx.rows
        )
        return None, None, None, None


def _linear(module: nn.Linear, taps: GradientCapture, name: str, inputs: Tensor) -> Tensor:
    if taps.listening and torch.is_grad_enabled() and (rows := taps.rows(name, len(inputs))):
        return _Linear.apply(inputs, module.weight, module.bias, taps, rows)
    return F.linear(inputs, module.weight, module.bias)


def _layer_norm(module: nn.LayerNorm, taps: GradientCapture, name: str, inputs: Tensor) -> Tensor:
    alone = inputs.ndim > 1 and tuple(module.normalized_shape) == (inputs.shape[-1],)
    if (
        alone
        and taps.listening
        and torch.is_grad_enabled()
        and (rows := taps.rows(name, len(inputs)))
    ):
        return _LayerNorm.apply(inputs, module.weight, module.bias, module.eps, taps, rows)
    return F.layer_norm(inputs, module.normalized_shape, module.weight, module.bias, module.eps)


def _embedding(module: nn.Embedding, taps: GradientCapture, name: str, ids: Tensor) -> Tensor:
    plain = module.max_norm is None and not module.scale_grad_by_freq and not module.sparse
    if (
        plain
        and taps.listening
        and torch.is_grad_enabled()
        and (rows := taps.rows(name, len(ids), broadcast=True))
    ):
        # Places that are the same in all rows come once: each row needs its own for its task's part.
        ids = ids.expand(rows[-1].stop, *ids.shape[1:])
        return _Embedding.apply(ids, module.weight, module.padding_idx, taps, rows)
    return F.embedding(
        ids,
        module.weight,
        module.padding_idx,
        module.max_norm,
        module.norm_type,
        module.scale_grad_by_freq,
        module.sparse,
    )


def _spread(parameter: Tensor, taps: GradientCapture, name: str, count: int) -> Tensor:
    if taps.listening and torch.is_grad_enabled() and (rows := taps.rows(name, count)):
        return _Spread.apply(count, parameter, taps, rows)
    return parameter.expand(count, *parameter.shape)


_FORWARDS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Linear: _linear,
    nn.LayerNorm: _layer_norm,
    nn.Embedding: _embedding,
}
_LAYERS = tuple(function._backward_cls for function in (_Linear, _LayerNorm, _Embedding))
_SPREAD = _Spread._backward_cls


def uncaptured_parameters(
    losses: Tensor, taps: GradientCapture, shared: dict[str, nn.Parameter]
) -> list[str]:
    """Names of shared parameters whose gradient does not come through a tapped layer alone: a walk over the graph.

    Args:
        losses: What will be differentiated.
        taps: The taps.
        shared: The shared parameters by name.
    """
    names = {id(parameter): name for name, parameter in shared.items()}
    found = set(taps.strangers)
    for node, place, variable in _leaves(losses):
        if id(variable) in names and not taps.holds(node, place):
            found.add(names[id(variable)])
    return sorted(found)


def _leaves(losses: Tensor) -> Iterator[tuple[Any, int, Tensor]]:
    """Each edge of a graph that leads to a leaf: the node, the edge's place, the leaf."""
    waiting, seen = [losses.grad_fn], {losses.grad_fn}
    while waiting:
        node = waiting.pop()
        for place, (child, _) in enumerate(node.next_functions if node else ()):
            if child is None:
                continue
            if hasattr(child, "variable"):
                yield node, place, child.variable
            elif child not in seen:
                seen.add(child)
                waiting.append(child)
