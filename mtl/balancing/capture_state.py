"""What the captured layers of a model share: whether they are active, and where gradients go."""

from typing import Any, Protocol

import torch
from torch import Tensor

from mtl.modules.task_context import Span, current_spans

Spans = tuple[Span, ...]


class GradientSink(Protocol):
    """Receives the gradients of the captured layers in a backward pass.

    Dimension 0 of every tensor is the example; `spans` states which examples belong to which task.
    """

    def linear(
        self, weight: Tensor, bias: Tensor | None, inputs: Tensor, grad_output: Tensor, spans: Spans
    ) -> None:
        """Receives the factors of a linear layer's gradient.

        The gradient of the weight is the product of `grad_output` (examples, ..., out), transposed,
        and `inputs` (examples, ..., in). The gradient of the bias is the sum of `grad_output`.
        """

    def vector(self, parameter: Tensor, gradients: list[Tensor], spans: Spans) -> None:
        """Receives a parameter's gradient for each span, each of the parameter's shape."""

    def embedding(self, weight: Tensor, ids: Tensor, grad_output: Tensor, spans: Spans) -> None:
        """Receives `grad_output` (examples, length, H), the gradient of the looked-up vectors.

        `ids` (examples, length) are the indices of these vectors in the table `weight`.
        """


class DiscardedGradients:
    """A sink that ignores what it receives."""

    def linear(self, *args: Any) -> None:
        """Does nothing."""

    vector = embedding = linear


class CaptureState:
    """What the captured layers of one model share.

    Attributes:
        active: Whether a forward pass is to be captured.
        sink: Receives the gradients of a backward pass. None: the pass computes ordinary gradients.
        uncaptured_layers: Names of layers that were applied to something else than the examples of
            the batch, so that their gradients cannot be divided by task.
    """

    def __init__(self) -> None:
        self.active = False
        self.sink: GradientSink | None = None
        self.uncaptured_layers: set[str] = set()
        self._cast: dict[tuple[int, torch.dtype], Tensor] = {}

    def start(self) -> None:
        """Activates the capture for a step. Weights may have changed since the last step."""
        self.active = True
        self._cast.clear()

    def cast(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """The weight in the given precision; it is cast once per step."""
        if weight.dtype == dtype:
            return weight
        key = id(weight), dtype
        if key not in self._cast:
            self._cast[key] = weight.detach().to(dtype)
        return self._cast[key]

    def spans(self, name: str, count: int, broadcast: bool = False) -> Spans:
        """The tasks of the `count` examples that a layer is applied to.

        Args:
            name: Name of the layer.
            count: Size of dimension 0 of its input.
            broadcast: Whether the input may be one example for the whole batch (position ids).

        Returns:
            The spans. Empty if the capture is not active, or if the input is not the examples of
            the forward pass; the latter is noted in `uncaptured_layers`.
        """
        if not self.active or not torch.is_grad_enabled():
            return ()
        spans = current_spans()
        if not spans or (spans[-1].stop != count and not (broadcast and count == 1)):
            self.uncaptured_layers.add(name)
            return ()
        return spans
