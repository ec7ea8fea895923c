"""A pretrained encoder with small bottlenecks in its layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from mtl.bounds import Count
from mtl.methods.multi_head import MultiHead
from mtl.modules.adapters import Activation, Bottleneck, Init, scaled_size, shared_or_per_task
from mtl.modules.families import family, layers
from mtl.modules.family_table import Family

Placement = Literal["houlsby", "pfeiffer", "after_layer"]


class Adapters(MultiHead):
    """Bottlenecks with residual connections in every layer of a frozen encoder, shared or per task.

    Placements:

    * `houlsby`: after both sub-layers, before their residual connection (Houlsby et al. 2019).
    * `pfeiffer`: after the layer's last normalization; the result is added to the input of that
      normalization and normalized once more (Pfeiffer et al. 2021). In families whose layers
      normalize the inputs of their blocks instead: after the feed-forward block, before its
      residual connection.
    * `after_layer`: after the layer (shared adapters of the CS224N project).

    Source: the publications named above.
    Reads: token ids.  Batches: any scheme; the examples of several tasks share one forward pass.
    Per task: a head, and the bottlenecks if `per_task`.
    See also: `MultiHead`, which is the same without bottlenecks.

    Args:
        placement: Where the bottlenecks are.
        size: Size of a bottleneck; default: 132 (of the CS224N project) times the encoder's width
            over 768.
        per_task: Whether each task has its own bottlenecks.
        activation: Non-linearity of the bottlenecks.
        init: `zero`: the encoder starts unchanged; `normal`: N(0, 0.02).
        freeze: Whether to freeze the pretrained weights. Checkpoints do not contain frozen weights.

    Raises:
        UserError: If the family of the backbone is not known.
    """

    def __init__(
        self,
        placement: Placement = "pfeiffer",
        size: Count | None = None,
        per_task: bool = False,
        activation: Activation = "relu",
        init: Init = "zero",
        freeze: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder.requires_grad_(not freeze)
        width = self.encoder.width
        size = size or scaled_size(132, width)
        tasks = self.tasks if per_task else None
        self.adapters = nn.ModuleList()
        paths = family(self.encoder.backbone.config.model_type, "Adapters")
        for layer in layers(self.encoder.backbone, "Adapters"):
            for module in _adapted_modules(layer, paths, placement):
                adapter, apply = shared_or_per_task(
                    lambda: Bottleneck(width, size, activation, init), tasks
                )
                self.adapters.append(adapter)
                again = placement == "pfeiffer" and paths.last_norm is not None
                module.register_forward_hook(
                    NormalizedAdapterHook(apply) if again else AdapterHook(apply)
                )


@dataclass(frozen=True)
class AdapterHook:
    """Forward hook: output + adapter(output).

    Attributes:
        adapter: The bottleneck, or the function that applies the bottleneck of each example's task.
    """

    adapter: Callable[[Tensor], Tensor]

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """Returns the new output."""
        return output + self.adapter(output)


@dataclass(frozen=True)
class NormalizedAdapterHook:
    """Forward hook on a normalization: norm(adapter(output) + input).

    Attributes:
        adapter: The bottleneck, or the function that applies the bottleneck of each example's task.
    """

    adapter: Callable[[Tensor], Tensor]

    def __call__(self, norm: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Returns the new output."""
        # `forward`, because calling the module would call this hook again.
        return norm.forward(self.adapter(output) + args[0])


def _adapted_modules(
    layer: nn.Module, paths: Family, placement: Placement
) -> tuple[nn.Module, ...]:
    feed_forward = layer.get_submodule(paths.feed_forward_output)
    if placement == "houlsby":
        return layer.get_submodule(paths.attention_output), feed_forward
    if paths.last_norm is not None:  # its output is the layer's
        return (layer.get_submodule(paths.last_norm),)
    return (feed_forward,) if placement == "pfeiffer" else (layer,)
