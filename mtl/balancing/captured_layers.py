"""The `forward` functions of captured layers."""

import copy
from collections.abc import Callable
from types import MethodType
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import TensorWeakRef
from transformers.pytorch_utils import Conv1D

from mtl.balancing.capture_state import CaptureState
from mtl.balancing.captured_functions import (
    CapturedEmbedding,
    CapturedExpand,
    CapturedLayerNorm,
    CapturedLinear,
    CapturedTransposedLinear,
)


class CapturedForward:
    """The `forward` of a captured layer."""

    def __init__(
        self, forward: "Forward", module: nn.Module, state: CaptureState, name: str
    ) -> None:
        self._forward, self._module, self._state, self._name = forward, module, state, name

    def __call__(self, inputs: Tensor) -> Tensor:
        """Computes the layer's output."""
        return self._forward(self._module, self._state, self._name, inputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """The ordinary `forward` of the copied layer, which reads the copied weights."""
        module = copy.deepcopy(self._module, memo)
        return MethodType(type(module).forward, module)


def _linear(module: nn.Linear, state: CaptureState, name: str, inputs: Tensor) -> Tensor:
    if spans := state.spans(name, len(inputs)):
        return CapturedLinear.apply(inputs, module.weight, module.bias, state, spans)
    return F.linear(inputs, module.weight, module.bias)


def _transposed_linear(module: Conv1D, state: CaptureState, name: str, inputs: Tensor) -> Tensor:
    if spans := state.spans(name, len(inputs)):
        return CapturedTransposedLinear.apply(inputs, module.weight, module.bias, state, spans)
    return F.linear(inputs, module.weight.t(), module.bias)


def _layer_norm(module: nn.LayerNorm, state: CaptureState, name: str, inputs: Tensor) -> Tensor:
    last_dimension = inputs.ndim > 1 and tuple(module.normalized_shape) == (inputs.shape[-1],)
    if last_dimension and (spans := state.spans(name, len(inputs))):
        return CapturedLayerNorm.apply(inputs, module.weight, module.bias, module.eps, state, spans)
    return F.layer_norm(inputs, module.normalized_shape, module.weight, module.bias, module.eps)


def _embedding(module: nn.Embedding, state: CaptureState, name: str, ids: Tensor) -> Tensor:
    plain = module.max_norm is None and not module.scale_grad_by_freq and not module.sparse
    if plain and (spans := state.spans(name, len(ids), broadcast=True)):
        # Position ids have one example for the whole batch. Each example needs its own, so that its
        # gradient reaches its task.
        ids = ids.expand(spans[-1].stop, *ids.shape[1:])
        return CapturedEmbedding.apply(ids, module.weight, module.padding_idx, state, spans)
    return F.embedding(
        ids,
        module.weight,
        module.padding_idx,
        module.max_norm,
        module.norm_type,
        module.scale_grad_by_freq,
        module.sparse,
    )


def _scaled_embedding(module: Any, state: CaptureState, name: str, ids: Tensor) -> Tensor:
    """Gemma's word embeddings: the vectors times a constant."""
    return _embedding(module, state, name, ids) * module.embed_scale.to(module.weight.dtype)


def _rms_norm(module: Any, state: CaptureState, name: str, inputs: Tensor) -> Tensor:
    """The module's own `forward`, with a weight for each example that broadcasts over tokens."""
    weight: Any = module.weight
    if spans := state.spans(name, len(inputs)):
        expanded = CapturedExpand.apply(len(inputs), weight, state, spans)
        weight = expanded.view(len(inputs), *[1] * (inputs.ndim - 2), -1)
    output: Tensor = type(module).forward(_WithWeight(module, weight), inputs)
    return output


class _WithWeight:
    """A module whose `weight` is another tensor."""

    def __init__(self, module: nn.Module, weight: Tensor) -> None:
        self._module, self.weight = module, weight

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def expand(reference: TensorWeakRef, state: CaptureState, name: str, count: int) -> Tensor:
    """`parameter.expand(count, *parameter.shape)`; the referenced parameter must be alive."""
    parameter = reference()
    assert parameter is not None
    if spans := state.spans(name, count):
        return CapturedExpand.apply(count, parameter, state, spans)
    return parameter.expand(count, *parameter.shape)


Forward = Callable[[Any, CaptureState, str, Tensor], Tensor]
FORWARDS: dict[type[nn.Module], Forward] = {
    nn.Linear: _linear,
    Conv1D: _transposed_linear,
    nn.LayerNorm: _layer_norm,
    nn.Embedding: _embedding,
}
"""The layers that can be captured, and their `forward` functions."""


def forward_to_capture(module: nn.Module) -> Forward | None:
    """The `forward` function of a layer that can be captured; None for other modules.

    Every family of transformers has classes of its own for the root mean square norm, whose weight
    is multiplied elementwise, and for scaled embeddings.
    """
    parameters = dict(module.named_parameters())
    is_rms_norm = type(module).__name__.endswith("RMSNorm") and type(module) is not nn.RMSNorm
    if is_rms_norm and parameters.keys() == {"weight"} and parameters["weight"].ndim == 1:
        return _rms_norm
    if isinstance(module, nn.Embedding) and type(module).__name__.endswith("ScaledWordEmbedding"):
        return _scaled_embedding
    return FORWARDS.get(type(module))
