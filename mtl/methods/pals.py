"""A pretrained encoder with small task-specific attention layers in parallel with its layers."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from mtl.bounds import Count
from mtl.errors import UserError
from mtl.methods.attention import Attention
from mtl.methods.multi_head import MultiHead
from mtl.modules.adapters import Bottleneck, Init, scaled_size
from mtl.modules.backbone_checks import is_causal
from mtl.modules.families import family, layers, linear_shape
from mtl.modules.layer_hooks import LayerInput
from mtl.modules.pals import ProjectedAttention, Projections, SmallAttention
from mtl.modules.per_task import PerTask
from mtl.tasks import Task

# Published size of a PAL at a width of 768, and number of heads.
PUBLISHED = {"tied": (204, 6), "low_rank": (100, 1), "shared_and_task": (132, 12)}


class PALs(MultiHead):
    """Projected attention layers: a small task-specific attention in parallel with every layer.

    The output of a new module is added to that of the layer's feed-forward block, or as its variant
    says. h is the input of the layer, normalized in families whose layers normalize the inputs of
    their blocks. A module attends to the tokens that its layer attends to.

    Variants:

    * `tied`: GELU(V_D Attn(V_E h)); all layers share the projections V_E and V_D of a task.
    * `low_rank`: V_D GELU(V_E h), with projections per layer.
    * `shared_and_task`: in every layer one projected attention that all tasks share and one per
      task, with projections per layer and without GELU; both are added to the output of the
      layer's attention, before its output projection.

    In training, attention probabilities of the new modules are dropped like those of the encoder:
    with the probability of its configuration, 0.1 for BERT.

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
        UserError: If the family of the backbone is not known, or the heads of its attention do not
            have the width of the hidden states (`shared_and_task`).
    """

    unsupported_attention: ClassVar[Collection[Attention]] = ["flex_attention"]
    attention_reason: ClassVar[str] = (
        "the attention of PALs reads masks of other formats; choose sdpa or flash_attention_2"
    )

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
        config = self.encoder.backbone.config
        paths = family(config.model_type, "PALs")
        published, heads = PUBLISHED[variant]
        small = size or scaled_size(published, width, heads)
        dropout = getattr(config, paths.attention_dropout)
        make: dict[str, Callable[[Task], nn.Module]] = {
            "tied": lambda task: SmallAttention(small, heads, dropout),
            "low_rank": lambda task: Bottleneck(width, small, "gelu", init),
            "shared_and_task": lambda task: ProjectedAttention(width, small, heads, init, dropout),
        }
        if variant == "tied":
            self.projections = PerTask(self.tasks, lambda task: Projections(width, small, init))
        self.pals, self.shared = nn.ModuleList(), nn.ModuleList()
        for layer in layers(self.encoder.backbone, "PALs"):
            attention = layer.get_submodule(paths.attention)
            layer_input = LayerInput(attention, is_causal(config))
            pals = PerTask(self.tasks, make[variant])
            self.pals.append(pals)
            output = layer.get_submodule(paths.feed_forward_output)
            if variant == "tied":
                output.register_forward_hook(TiedHook(layer_input, pals, self.projections))
            elif variant == "low_rank":
                output.register_forward_hook(LowRankHook(layer_input, pals))
            else:
                projection = layer.get_submodule(paths.attention_projection)
                _check_width(projection, width)
                shared = ProjectedAttention(width, small, heads, init, dropout)
                self.shared.append(shared)
                projection.register_forward_pre_hook(AttentionHook(layer_input, pals, shared))


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
    """Forward pre-hook on the output projection of a layer's attention.

    Adds the shared and the task-specific projected attention to its input.

    Attributes:
        layer_input: Provides h and the attention mask.
        per_task: A `ProjectedAttention` per task.
        shared: The `ProjectedAttention` of all tasks.
    """

    layer_input: LayerInput
    per_task: PerTask
    shared: ProjectedAttention

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> Tensor:
        """Returns the new input."""
        states, mask = self.layer_input.take()
        return args[0] + self.shared(states, mask) + self.per_task.apply_per_task(states, mask)


def _check_width(projection: nn.Module, width: int) -> None:
    inputs = (linear_shape(projection) or (width, width))[0]
    if inputs != width:
        raise UserError(
            f"PALs: variant: shared_and_task: the attention heads of this backbone have {inputs} "
            f"outputs, but its hidden states have {width}; choose variant: tied or low_rank"
        )
