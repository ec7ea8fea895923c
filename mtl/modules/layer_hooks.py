"""Forward hooks that add modules to a pretrained encoder without renaming its modules.

A hook is a callable object, never a closure: `copy.deepcopy` follows the attributes of an object
and copies the modules in it together with the model, but it shares the variables of a closure with
the original.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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


class LayerInput:
    """Captures the input of a layer for a module further inside it, which takes it once.

    Args:
        layer: A layer with BERT's layout.
    """

    def __init__(self, layer: Any) -> None:
        self._captured: tuple[Tensor, Tensor | None] | None = None
        # On the attention module, whose input is the same: gradient checkpointing recomputes a
        # layer without its hooks.
        layer.attention.register_forward_pre_hook(self._capture, with_kwargs=True)

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
        states = args[0] if args else kwargs["hidden_states"]
        mask = args[1] if len(args) > 1 else kwargs.get("attention_mask")
        self._captured = states, mask
