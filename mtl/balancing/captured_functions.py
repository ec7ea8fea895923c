"""Autograd functions of captured layers. `mtl.balancing.gradient_capture` explains their use.

Each function computes the same output as the layer's ordinary function. Its backward pass depends
on `CaptureState.sink`: without a sink it returns ordinary gradients; with one it returns only the
gradient of the layer's input, and passes the factors of the weights' gradient to the sink.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mtl.balancing.capture_state import CaptureState, Spans

_norm, _norm_backward = torch.ops.aten.native_layer_norm, torch.ops.aten.native_layer_norm_backward


class CapturedLinear(torch.autograd.Function):
    """`F.linear` for inputs (examples, ..., in)."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        state: CaptureState,
        spans: Spans,
    ) -> Tensor:
        """Returns (examples, ..., out), in the precision of autocast."""
        device = inputs.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else inputs.dtype
        inputs = inputs.to(dtype)
        ctx.save_for_backward(inputs)
        # Not with save_for_backward: in a checkpointed layer, the backward pass would get another
        # tensor than the parameter itself, by whose identity the sink looks up its name.
        ctx.weight, ctx.bias, ctx.state, ctx.spans = weight, bias, state, spans
        return F.linear(
            inputs, state.cast(weight, dtype), None if bias is None else state.cast(bias, dtype)
        )

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        """Returns the gradients of inputs, weight and bias; with a sink, of inputs only."""
        (grad_output,), (inputs,), weight, bias = (
            grad_outputs,
            ctx.saved_tensors,
            ctx.weight,
            ctx.bias,
        )
        grad_input = None
        if ctx.needs_input_grad[0]:
            grad_input = grad_output @ ctx.state.cast(weight, grad_output.dtype)
        if ctx.state.sink is not None:
            ctx.state.sink.linear(weight, bias, inputs, grad_output, ctx.spans)
            return grad_input, None, None, None, None
        flat = grad_output.flatten(0, -2)
        grad_weight = flat.t() @ inputs.flatten(0, -2) if ctx.needs_input_grad[1] else None
        grad_bias = flat.sum(0) if bias is not None and ctx.needs_input_grad[2] else None
        return grad_input, grad_weight, grad_bias, None, None


class CapturedTransposedLinear(torch.autograd.Function):
    """GPT-2's `Conv1D`: a linear layer with weight (in, out), for inputs (examples, ..., in)."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, state: CaptureState, spans: Spans
    ) -> Tensor:
        """Returns (examples, ..., out), in the precision of autocast."""
        device = inputs.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else inputs.dtype
        inputs = inputs.to(dtype)
        ctx.save_for_backward(inputs)
        ctx.weight, ctx.bias, ctx.state, ctx.spans = weight, bias, state, spans
        return F.linear(inputs, state.cast(weight, dtype).t(), state.cast(bias, dtype))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        """Returns the gradients of inputs, weight and bias; with a sink, of inputs only."""
        (grad_output,), (inputs,), weight, bias = (
            grad_outputs,
            ctx.saved_tensors,
            ctx.weight,
            ctx.bias,
        )
        grad_input = None
        if ctx.needs_input_grad[0]:
            grad_input = grad_output @ ctx.state.cast(weight, grad_output.dtype).t()
        if ctx.state.sink is not None:
            # The weight's gradient is that of a linear layer with the two factors exchanged.
            ctx.state.sink.linear(weight, None, grad_output, inputs, ctx.spans)
            if bias.requires_grad:
                gradients = [
                    grad_output[start:stop].flatten(0, -2).sum(0) for _, start, stop in ctx.spans
                ]
                ctx.state.sink.vector(bias, gradients, ctx.spans)
            return grad_input, None, None, None, None
        flat = grad_output.flatten(0, -2)
        grad_weight = inputs.flatten(0, -2).t() @ flat if ctx.needs_input_grad[1] else None
        grad_bias = flat.sum(0) if ctx.needs_input_grad[2] else None
        return grad_input, grad_weight, grad_bias, None, None


class CapturedLayerNorm(torch.autograd.Function):
    """`F.layer_norm` over the last dimension of inputs (examples, ..., H)."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        eps: float,
        state: CaptureState,
        spans: Spans,
    ) -> Tensor:
        """Returns (examples, ..., H)."""
        if inputs.device.type != "cpu" and torch.is_autocast_enabled(inputs.device.type):
            inputs = inputs.float()  # as autocast does on these devices
        output, mean, scale = _norm(inputs, weight.shape, weight, bias, eps)
        ctx.save_for_backward(inputs, mean, scale)
        ctx.weight, ctx.bias, ctx.state, ctx.spans = weight, bias, state, spans
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        """Returns the gradients of inputs, weight and bias; with a sink, of inputs only."""
        (grad_output,), (inputs, mean, scale) = grad_outputs, ctx.saved_tensors
        weight, bias, sink = ctx.weight, ctx.bias, ctx.state.sink
        needed = [True, weight.requires_grad, bias is not None and bias.requires_grad]

        def gradients(examples: slice) -> Any:
            tensors = grad_output[examples], inputs[examples], mean[examples], scale[examples]
            grad, x, mu, sigma = tensors
            return _norm_backward(grad, x, weight.shape, mu, sigma, weight, bias, needed)

        if sink is None:
            return *gradients(slice(None)), None, None, None
        grad_inputs, grad_weights, grad_biases = zip(
            *[gradients(slice(start, stop)) for _, start, stop in ctx.spans], strict=True
        )
        if needed[1]:
            sink.vector(weight, list(grad_weights), ctx.spans)
        if needed[2]:
            sink.vector(bias, list(grad_biases), ctx.spans)
        grad_input = torch.cat(grad_inputs) if len(grad_inputs) > 1 else grad_inputs[0]
        return grad_input, None, None, None, None, None


class CapturedEmbedding(torch.autograd.Function):
    """`F.embedding` for ids (examples, length)."""

    @staticmethod
    def forward(
        ctx: Any,
        ids: Tensor,
        weight: Tensor,
        padding: int | None,
        state: CaptureState,
        spans: Spans,
    ) -> Tensor:
        """Returns (examples, length, H)."""
        ctx.save_for_backward(ids)
        ctx.weight, ctx.padding, ctx.state, ctx.spans = weight, padding, state, spans
        return F.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        """Returns the gradient of the table; with a sink, nothing."""
        (grad_output,), (ids,), weight = grad_outputs, ctx.saved_tensors, ctx.weight
        if ctx.state.sink is None:
            padding = -1 if ctx.padding is None else ctx.padding
            grad_weight = torch.ops.aten.embedding_dense_backward(
                grad_output, ids, weight.shape[0], padding, False
            )
            return None, grad_weight, None, None, None
        if ctx.padding is not None:
            grad_output = grad_output.masked_fill((ids == ctx.padding).unsqueeze(-1), 0.0)
        ctx.state.sink.embedding(weight, ids, grad_output, ctx.spans)
        return None, None, None, None, None


class CapturedExpand(torch.autograd.Function):
    """`parameter.expand(count, *parameter.shape)`."""

    @staticmethod
    def forward(
        ctx: Any, count: int, parameter: Tensor, state: CaptureState, spans: Spans
    ) -> Tensor:
        """Returns (count, *shape)."""
        ctx.parameter, ctx.state, ctx.spans = parameter, state, spans
        return parameter.expand(count, *parameter.shape)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        """Returns the gradient of the parameter; with a sink, nothing."""
        (grad_output,) = grad_outputs
        if ctx.state.sink is None:
            return None, grad_output.sum(0), None, None
        gradients = [grad_output[start:stop].sum(0) for _, start, stop in ctx.spans]
        ctx.state.sink.vector(ctx.parameter, gradients, ctx.spans)
        return None, None, None, None
