"""Captures the gradient of each task from one backward pass over a batch of several tasks.

The idea: each example of a mixed batch belongs to one task, so each slice along dimension 0 of the
gradient of a layer's output belongs to one task too. The gradient of a weight is a sum over
examples. Computed over each task's examples separately, this sum gives the gradient of each task,
with no more multiplications than the ordinary sum.

`Surgery` and `GradientProbe` use it as follows, shown for a linear layer and a batch of 3 examples
of task A and 2 of task B, with L tokens each:

1. `GradientCapture(model, shared)`, once before training, replaces `forward` of each linear layer,
   layer norm, RMS norm and embedding that has a shared parameter. A parameter that a module reads
   directly is captured if it expands it with `mtl.modules.task_context.expand_per_example`.
2. `start()` activates the capture; the forward pass follows. The replaced `forward` looks up which
   examples belong to which task (`mtl.modules.task_context.current_spans`) and applies an autograd
   function (`mtl.balancing.captured_functions`), which computes the ordinary output:

       inputs x (5, L, in)  ->  output y (5, L, out),      spans: A = 0:3, B = 3:5

3. The backward pass runs within `with collect_into(sink)`; the sink is the object that receives the
   gradients. The autograd function returns the gradient of its input, as usual, but not that of its
   weight. It passes the two factors of the latter to the sink:

       dx (5, L, in)  <-  dy (5, L, out)
                           |
                           +-> sink.linear(weight, bias, x, dy, spans)
                                   gradient of A: dy[0:3]^T x[0:3]    (out, in)
                                   gradient of B: dy[3:5]^T x[3:5]    (out, in)

   The sink (`mtl.balancing.task_gradients.TaskGradients`) sums per task. `.grad` of the captured
   parameters does not change; `Surgery` sets it later, from the combined gradients. A layer norm
   computes the gradients of its weight and bias per task and passes them to `sink.vector`; an
   embedding passes the looked up indices and dy to `sink.embedding`.
4. `stop()` deactivates the capture: layers compute what they computed before.

Not every use of a parameter can be captured: it may be read by another kind of layer, or by a layer
whose inputs are not the examples of the batch. `uncaptured_parameters` finds these in the graph of
the losses. The caller then has to run one backward pass per task.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.weak import TensorWeakRef

from mtl.balancing.capture_state import CaptureState, DiscardedGradients, GradientSink
from mtl.balancing.captured_functions import (
    CapturedEmbedding,
    CapturedExpand,
    CapturedLayerNorm,
    CapturedLinear,
    CapturedTransposedLinear,
)
from mtl.balancing.captured_layers import CapturedForward, expand, forward_to_capture
from mtl.modules.task_context import register_expansion, unregister_expansion


class GradientCapture:
    """Captures gradients of the shared parameters of a model, separately for each task.

    Without `start`, and under `torch.no_grad`, the model computes what it computes without capture.
    A deep copy of the model is not captured.

    Args:
        model: The model.
        shared: The parameters to capture, by name.
    """

    def __init__(self, model: nn.Module, shared: dict[str, nn.Parameter]) -> None:
        self._shared = shared
        self._state = CaptureState()
        self._modules: list[nn.Module] = []
        shared_ids = {id(parameter) for parameter in shared.values()}
        for name, parameter in shared.items():
            # A weak reference: the registry must not keep the parameter alive.
            reference = TensorWeakRef(parameter)
            register_expansion(parameter, partial(expand, reference, self._state, name))
        for name, module in model.named_modules():
            forward = forward_to_capture(module)
            own = {id(parameter) for parameter in module.parameters(recurse=False)}
            if forward and own & shared_ids:
                vars(module)["forward"] = CapturedForward(forward, module, self._state, name)
                self._modules.append(module)

    def start(self) -> None:
        """Captures the forward passes from here on; called before each step."""
        self._state.start()

    def stop(self) -> None:
        """Ends the capture of forward passes."""
        self._state.active = False

    @contextmanager
    def collect_into(self, sink: GradientSink) -> Iterator[None]:
        """Context manager: backward passes give the gradients of captured parameters to a sink."""
        self._state.sink, before = sink, self._state.sink
        try:
            yield
        finally:
            self._state.sink = before

    def input_gradients_only(self) -> AbstractContextManager[None]:
        """Context manager: compute gradients with respect to inputs only, not weights."""
        return self.collect_into(DiscardedGradients())

    def remove(self) -> None:
        """Restores the layers."""
        for module in self._modules:
            del vars(module)["forward"]
        for parameter in self._shared.values():
            unregister_expansion(parameter)
        self._modules = []

    def uncaptured_parameters(self, losses: Tensor) -> list[str]:
        """Names of the shared parameters, and of the layers, that the capture misses, sorted.

        Args:
            losses: The losses of the tasks, with their graph.
        """
        names = {id(parameter): name for name, parameter in self._shared.items()}
        missed = set(self._state.uncaptured_layers)
        for node, index, leaf in _edges_to_leaves(losses):
            first_captured = _FIRST_CAPTURED_INPUT.get(type(node))
            captured = first_captured is not None and index >= first_captured
            if id(leaf) in names and not captured:
                missed.add(names[id(leaf)])
        return sorted(missed)


# Index of the first input whose gradient is captured. Input 0 of a layer's function is what the
# layer is applied to, not its own weight.
_FIRST_CAPTURED_INPUT: dict[type, int] = {
    CapturedLinear._backward_cls: 1,
    CapturedTransposedLinear._backward_cls: 1,
    CapturedLayerNorm._backward_cls: 1,
    CapturedEmbedding._backward_cls: 1,
    CapturedExpand._backward_cls: 0,
}


def _edges_to_leaves(losses: Tensor) -> Iterator[tuple[Any, int, Tensor]]:
    """Yields each edge of the graph that ends in a leaf: node, index of the node's input, leaf."""
    pending, seen = [losses.grad_fn], {losses.grad_fn}
    while pending:
        node = pending.pop()
        for index, (child, _) in enumerate(node.next_functions if node else ()):
            if child is None:
                continue
            if hasattr(child, "variable"):  # AccumulateGrad
                yield node, index, child.variable
            elif child not in seen:
                seen.add(child)
                pending.append(child)
