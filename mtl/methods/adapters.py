"""A pretrained encoder with small bottlenecks in its layers."""

from typing import Any, Literal

from torch import Tensor, nn

from mtl.methods.multi_head import MultiHead
from mtl.modules import PerTask
from mtl.modules.adapters import Activation, Bottleneck, Init
from mtl.modules.layer_hooks import after, bert_layers


class Adapters(MultiHead):
    """Bottlenecks with a residual in every layer, shared by the tasks or one for each; the encoder itself is frozen.

    Source: Houlsby et al. 2019 (`houlsby`: after both sub-layers, before their residual sum); Pfeiffer et al. 2021
    (`pfeiffer`: on what each layer's last normalisation gives, added to what it was given and normalised once more); the
    CS224N project's shared adapters (`after_layer`: after each layer's last normalisation, with a residual).
    Reads: token ids.  Batches: any scheme; rows of several tasks pass through the encoder together.
    Per task: a head, and the bottlenecks where `per_task`.
    Relations: `MultiHead` without the bottlenecks.

    Args:
        placement: Where the bottlenecks are.
        size: Their size; by proportion to the encoder's width, 132 of 768 (the CS224N project's), where absent.
        per_task: Whether each task has its own, or all share one.
        activation: Their non-linearity.
        init: `zero`: the encoder starts as it was; `normal`: N(0, 0.02).
        freeze: Whether the encoder's own weights stay as they are; a checkpoint then leaves them out.

    Raises:
        UserError: If the backbone's layers are not those of BERT.
    """

    def __init__(
        self,
        placement: Literal["houlsby", "pfeiffer", "after_layer"] = "pfeiffer",
        size: int | None = None,
        per_task: bool = False,
        activation: Activation = "relu",
        init: Init = "zero",
        freeze: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder.requires_grad_(not freeze)
        width = self.encoder.width
        size = size or proportion(132, width, 1)

        def part() -> nn.Module:
            if per_task:
                return PerTask(self.tasks, lambda task: Bottleneck(width, size, activation, init))
            return Bottleneck(width, size, activation, init)

        self.adapters = nn.ModuleList()
        for layer in bert_layers(self.encoder.backbone, "Adapters"):
            inside = (layer.attention.output.dropout, layer.output.dropout)
            places = {
                "houlsby": inside,
                "pfeiffer": (layer.output.LayerNorm,),
                "after_layer": (layer.output,),
            }[placement]
            for place in places:
                self.adapters.append(part())
                if placement == "pfeiffer":
                    place.register_forward_hook(_normalised_again(self.adapters[-1]))
                else:
                    after(place, _adapted(self.adapters[-1]))


def _adapted(part: nn.Module) -> Any:
    def change(states: Tensor) -> Tensor:
        return states + _of(part, states)

    return change


def _normalised_again(part: nn.Module) -> Any:
    def hook(norm: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        # Its `forward`, for a call of the module would come here again.
        return norm.forward(_of(part, output) + args[0])

    return hook


def _of(part: nn.Module, states: Tensor) -> Tensor:
    return part.routed(states) if isinstance(part, PerTask) else part(states)


def proportion(size: int, width: int, multiple: int) -> int:
    """A size published for a width of 768, by proportion for another, as a multiple of a number of heads."""
    return max(1, round(size * width / 768 / multiple)) * multiple
