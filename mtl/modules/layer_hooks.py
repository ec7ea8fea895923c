"""Forward hooks that add modules to a pretrained encoder without renaming its modules.

A hook is a callable object, never a closure: `copy.deepcopy` follows the attributes of an object
and copies the modules in it together with the model, but it shares the variables of a closure with
the original.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ResidualHook:
    """Forward hook that adds a function of a module's input to its output.

    Attributes:
        change: A module, a bound method or a callable object.
    """

    change: Callable[[Tensor], Tensor]

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Returns the sum."""
        return output + self.change(args[0])


@dataclass(frozen=True)
class ProductHook:
    """Forward hook of a linear layer that adds a function of its input and of W x to its output.

    Attributes:
        change: A module, a bound method or a callable object.
    """

    change: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Returns the sum."""
        bias = cast(Tensor | None, module.bias)
        return output + self.change(args[0], output if bias is None else output - bias)


class LayerInput:
    """Captures the input of a layer's attention for a module further inside, which takes it once.

    It is the input of the layer, or its normalized input if the layer normalizes the inputs of its
    blocks (`Family.last_norm`).

    Args:
        attention: The self-attention of a layer. Not the layer itself: gradient checkpointing
            recomputes a layer without its hooks.
        causal: Whether a token attends to earlier tokens only.
    """

    def __init__(self, attention: nn.Module, causal: bool) -> None:
        self._captured: tuple[Tensor, Tensor | None] | None = None
        self._signature, self._causal = inspect.signature(attention.forward), causal
        attention.register_forward_pre_hook(self._capture, with_kwargs=True)

    def take(self) -> tuple[Tensor, Tensor | None]:
        """Returns the captured input and drops it, so that no reference keeps a graph alive.

        Returns:
            Hidden states, shape (examples, length, H), and the attention mask: values to add, or
            booleans, broadcast over (examples, heads, length, length); None if all tokens are
            attended to.
        """
        assert self._captured is not None, "the layer's attention runs before the module that reads"
        captured, self._captured = self._captured, None
        return captured

    def _capture(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        arguments = self._signature.bind(*args, **kwargs).arguments
        states = arguments["hidden_states"]
        self._captured = states, _as_values(arguments.get("attention_mask"), states, self._causal)


def _as_values(mask: Tensor | None, states: Tensor, causal: bool) -> Tensor | None:
    """The mask of an attention implementation as booleans or values to add, one per example."""
    examples, length, _ = states.shape
    if mask is None and not causal:
        return None
    if mask is None or mask.ndim == 2:  # the implementation itself hides padding and later tokens
        ones = states.new_ones(length, length, dtype=torch.bool)
        visible = ones.tril() if causal else ones
        mask = visible if mask is None else visible & mask.bool()[:, None, None, :]
    elif not mask.is_floating_point() and mask.dtype != torch.bool:
        # DeBERTa hides all tokens from padding, for which attention has no value.
        mask = mask.bool().any(-2, keepdim=True)
    return mask.expand(examples, 1, *mask.shape[-2:])
