"""A pretrained encoder with small task-specific attention layers in parallel with its layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from mtl.bounds import Count
from mtl.methods.multi_head import MultiHead
from mtl.modules.adapters import Bottleneck, Init, scaled_size
from mtl.modules.families import bert_layers
from mtl.modules.layer_hooks import LayerInput
from mtl.modules.pals import ProjectedAttention, Projections, SmallAttention
from mtl.modules.per_task import PerTask
from mtl.tasks import Task

# Published size of a PAL at a width of 768, and number of heads.
PUBLISHED = {"tied": (204, 6), "low_rank": (100, 1), "shared_and_task": (132, 12)}


class PALs(MultiHead):
    """Projected attention layers: a small task-specific attention in parallel with every layer.

    The output of a new module is added before the layer's last normalization, or as its variant
    says. h is the input of the layer.

    Variants:

    * `tied`: GELU(V_D Attn(V_E h)); all layers share the projections V_E and V_D of a task.
    * `low_rank`: V_D GELU(V_E h), with projections per layer.
    * `shared_and_task`: in every layer one projected attention that all tasks share and one per
      task, with projections per layer and without GELU; both are added to the output of the
      layer's attention, before its output projection.

    In training, attention probabilities of the new modules are dropped like those of the encoder:
    with the probability `attention_probs_dropout_prob` of its configuration, 0.1 for BERT.

    The new modules output 0 at first, so training starts from the plain encoder. The publications
    start from `init: normal`.

    Source: Stickland and Murray 2019, section 3 (`tied`, `low_rank`), as released; the CS224N
    project (`shared_and_task`).
    Reads: token ids.  Batches: any scheme; the examples of several tasks share one forward pass.
    Per task: a head and the new modules.  Shared: the encoder, which is trained as well unless
    frozen.
    See also: `MultiHead`, which is the same without the new modules; `Adapters`, inserted after a
    layer, not in parallel.

    Args:
        variant: Which modules to add, and where.
        size: Width of the new modules; default: 204 (`tied`), 100 (`low_rank`) or 132 times the
            encoder's width over 768.
        init: `zero`: the encoder starts unchanged; `normal`: N(0, 0.02).
        freeze: Whether to freeze the pretrained weights. Checkpoints do not contain frozen weights.

    Raises:
        UserError: If the backbone's layers do not have BERT's layout.
    """

    def __init__(
        self,
        variant: Literal["tied", "low_rank", "shared_and_task"] = "tied",
        size: Count | None = None,
        init: Init = "zero",
        freeze: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder.requires_grad_(not freeze)
        width = self.encoder.width
        layers = bert_layers(self.encoder.backbone, "PALs")
        published, heads = PUBLISHED[variant]
        small = size or scaled_size(published, width, heads)
        dropout = self.encoder.backbone.config.attention_probs_dropout_prob
        make: dict[str, Callable[[Task], nn.Module]] = {
            "tied": lambda task: SmallAttention(small, heads, dropout),
            "low_rank": lambda task: Bottleneck(width, small, "gelu", init),
            "shared_and_task": lambda task: ProjectedAttention(width, small, heads, init, dropout),
        }
        if variant == "tied":
            self.projections = PerTask(self.tasks, lambda task: Projections(width, small, init))
        self.pals, self.shared = nn.ModuleList(), nn.ModuleList()
        for layer in layers:
            layer_input, pals = LayerInput(layer), PerTask(self.tasks, make[variant])
            self.pals.append(pals)
            if variant == "tied":
                layer.output.dropout.register_forward_hook(
                    TiedHook(layer_input, pals, self.projections)
                )
            elif variant == "low_rank":
                layer.output.dropout.register_forward_hook(LowRankHook(layer_input, pals))
            else:
                shared = ProjectedAttention(width, small, heads, init, dropout)
                self.shared.append(shared)
                layer.attention.self.register_forward_hook(AttentionHook(layer_input, pals, shared))


@dataclass(frozen=True)
class TiedHook:
    """Forward hook: output + GELU(V_D Attn(V_E h)).

    Attributes:
        layer_input: Provides h and the attention mask.
        attention: A `SmallAttention` per task.
        projections: The `Projections` of each task, shared by all layers.
    """

    layer_input: LayerInput
    attention: PerTask
    projections: PerTask[Projections]

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """Returns the new output."""
        states, mask = self.layer_input.take()
        attended = self.attention.apply_per_task(
            self.projections.apply_per_task(states, part="down"), mask
        )
        return output + F.gelu(self.projections.apply_per_task(attended, part="up"))


@dataclass(frozen=True)
class LowRankHook:
    """Forward hook: output + V_D GELU(V_E h).

    Attributes:
        layer_input: Provides h.
        bottlenecks: A `Bottleneck` per task.
    """

    layer_input: LayerInput
    bottlenecks: PerTask

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """Returns the new output."""
        states, _ = self.layer_input.take()
        return output + self.bottlenecks.apply_per_task(states)


@dataclass(frozen=True)
class AttentionHook:
    """Forward hook on self-attention: adds the shared and the task-specific projected attention.

    Attributes:
        layer_input: Provides h and the attention mask.
        per_task: A `ProjectedAttention` per task.
        shared: The `ProjectedAttention` of all tasks.
    """

    layer_input: LayerInput
    per_task: PerTask
    shared: ProjectedAttention

    def __call__(
        self, module: nn.Module, args: Any, output: tuple[Tensor, Any]
    ) -> tuple[Tensor, Any]:
        """Returns the new output and the attention weights."""
        attended, weights = output
        states, mask = self.layer_input.take()
        return (
            attended + self.shared(states, mask) + self.per_task.apply_per_task(states, mask),
            weights,
        )
