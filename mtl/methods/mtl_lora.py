"""A frozen encoder whose linear layers receive low-rank updates that tasks share in part."""

from typing import Any

from torch import nn

from mtl.bounds import Count, Positive, ShareBelowOne
from mtl.methods.lora import target_layers
from mtl.methods.multi_head import MultiHead
from mtl.modules.layer_hooks import ResidualHook
from mtl.modules.multi_task_lora import MultiTaskLowRank


class MTLLoRA(MultiHead):
    """Low-rank updates with a shared projection, an r x r matrix per task, and mixed outputs.

    Source: Yang et al. 2024, MTL-LoRA (arXiv 2410.09437). Number of matrices, temperature, scale
    and initialization are those of the authors' code.
    Reads: token ids.  Batches: any scheme; the examples of several tasks share one forward pass.
    Per task: a head, a matrix of rank x rank in each update, and the weights of its `matrices`.
    See also: `LoRA`, whose updates are shared by all tasks or belong to one.

    Args:
        rank: Rank r of the updates.
        alpha: The updates are multiplied by alpha / r.
        lora_dropout: Dropout probability of the entries of a linear layer's input, for its update
            only.
        matrices: Number of shared matrices B that every task mixes with weights of its own.
        temperature: Divides the weights before their softmax; small values choose one matrix.
        targets: As in `LoRA`.
        freeze: Whether to freeze the pretrained weights. Checkpoints do not contain frozen weights.

    Raises:
        UserError: If the backbone has no such linear layers, or its query and value layers are not
            known.
    """

    def __init__(
        self,
        rank: Count = 8,
        alpha: Positive = 16.0,
        lora_dropout: ShareBelowOne = 0.0,
        matrices: Count = 3,
        temperature: Positive = 0.1,
        targets: list[str] | str | None = None,
        freeze: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder.requires_grad_(not freeze)
        self.changes = nn.ModuleDict()
        backbone = self.encoder.backbone
        for name, (inputs, outputs) in target_layers(backbone, targets).items():
            update = MultiTaskLowRank(
                self.tasks, inputs, outputs, rank, alpha, lora_dropout, matrices, temperature
            )
            self.changes[name.replace(".", "/")] = update
            backbone.get_submodule(name).register_forward_hook(ResidualHook(update))
