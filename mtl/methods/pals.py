"""A pretrained encoder with small attention layers of each task beside its own."""

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from mtl.methods.adapters import proportion
from mtl.methods.multi_head import MultiHead
from mtl.modules import PerTask
from mtl.modules.adapters import Bottleneck, Init
from mtl.modules.layer_hooks import LayerInput, after, bert_layers
from mtl.modules.pals import ProjectedAttention, Projections, SmallAttention
from mtl.tasks import Task


class PALs(MultiHead):
    """Projected attention layers: beside every layer a small attention of the row's task, added before the last norm.

    `tied`: V_D Attn(V_E h) followed by GELU, the projections of a task the same in all layers, h the layer's input.
    `low_rank`: V_D GELU(V_E h), projections of each layer. `shared_and_task`: in every layer one part that all tasks share
    and one of the task's own, untied, without GELU, added to what the layer's attention found, before its output map.

    New parts give 0 at first, so that training starts from the plain encoder: a departure from the publications, whose
    start is `init: normal`.

    Source: Stickland and Murray 2019, section 3 (`tied`, `low_rank`), as released; the CS224N project (`shared_and_task`).
    Reads: token ids.  Batches: any scheme; rows of several tasks pass through the encoder together.
    Per task: a head and its parts.  Shared: the encoder, trained as well unless frozen.
    Relations: `MultiHead` without the parts.

    Args:
        variant: Which parts, and where.
        size: Their small width; by proportion to the encoder's, 204 of 768 (`tied`), 100 (`low_rank`), 132, where absent.
        init: `zero`: the encoder starts as it was; `normal`: N(0, 0.02).
        freeze: Whether the encoder's own weights stay as they are; a checkpoint then leaves them out.

    Raises:
        UserError: If the backbone's layers are not those of BERT.
    """

    def __init__(
        self,
        variant: Literal["tied", "low_rank", "shared_and_task"] = "tied",
        size: int | None = None,
        init: Init = "zero",
        freeze: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder.requires_grad_(not freeze)
        width, layers = self.encoder.width, bert_layers(self.encoder.backbone, "PALs")
        published, heads = {"tied": (204, 6), "low_rank": (100, 1), "shared_and_task": (132, 12)}[
            variant
        ]
        small = size or proportion(published, width, heads)
        make: dict[str, Callable[[Task], nn.Module]] = {
            "tied": lambda task: SmallAttention(small, heads),
            "low_rank": lambda task: Bottleneck(width, small, "gelu", init),
            "shared_and_task": lambda task: ProjectedAttention(width, small, heads, init),
        }
        if variant == "tied":
            self.projections = PerTask(self.tasks, lambda task: Projections(width, small, init))
        self.beside, self.shared = nn.ModuleList(), nn.ModuleList()
        for layer in layers:
            given, part = LayerInput(layer), PerTask(self.tasks, make[variant])
            self.beside.append(part)
            if variant == "shared_and_task":
                shared = ProjectedAttention(width, small, heads, init)
                self.shared.append(shared)
                layer.attention.self.register_forward_hook(_with_attention(shared, part, given))
            else:
                after(
                    layer.output.dropout,
                    self._tied(part, given) if variant == "tied" else _low_rank(part, given),
                )

    def _tied(self, attention: PerTask, given: LayerInput) -> Callable[[Tensor], Tensor]:
        def change(states: Tensor) -> Tensor:
            seen = attention.routed(self.projections.routed(given.states, part="down"), given.mask)
            return states + F.gelu(self.projections.routed(seen, part="up"))

        return change


def _low_rank(part: PerTask, given: LayerInput) -> Callable[[Tensor], Tensor]:
    return lambda states: states + part.routed(given.states)


def _with_attention(shared: nn.Module, part: PerTask, given: LayerInput) -> Any:
    def change(module: nn.Module, args: Any, output: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        found, weights = output
        return found + shared(given.states, given.mask) + part.routed(
            given.states, given.mask
        ), weights

    return change
