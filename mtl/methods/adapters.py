"""A pretrained encoder with small bottlenecks in its layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from mtl.bounds import Count
from mtl.methods.multi_head import MultiHead
from mtl.modules.adapters import Activation, Bottleneck, Init, scaled_size, shared_or_per_task
from mtl.modules.families import bert_layers

Placement = Literal["houlsby", "pfeiffer", "after_layer"]


class Adapters(MultiHead):
    """Bottlenecks with residual connections in every layer of a frozen encoder, shared or per task.

    Placements:

    * `houlsby`: after both sub-layers, before their residual connection (Houlsby et al. 2019).
    * `pfeiffer`: after the layer's last normalization; the result is added to the input of that
      normalization and normalized once more (Pfeiffer et al. 2021).
    * `after_layer`: after the layer's last normalization (shared adapters of the CS224N project).

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
        UserError: If the backbone's layers do not have BERT's layout.
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
        for layer in bert_layers(self.encoder.backbone, "Adapters"):
            for module in _adapted_modules(layer, placement):
                adapter, apply = shared_or_per_task(
                    lambda: Bottleneck(width, size, activation, init), tasks
                )
                self.adapters.append(adapter)
                module.register_forward_hook(
                    NormalizedAdapterHook(apply) if placement == "pfeiffer" else AdapterHook(apply)
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


def _adapted_modules(layer: Any, placement: Placement) -> tuple[nn.Module, ...]:
    if placement == "houlsby":
        return layer.attention.output.dropout, layer.output.dropout
    return (layer.output.LayerNorm,) if placement == "pfeiffer" else (layer.output,)
