"""A frozen encoder whose linear maps change by matrices of low rank."""

from typing import Any

from torch import Tensor, nn

from mtl.errors import UserError
from mtl.methods.multi_head import MultiHead
from mtl.modules import PerTask
from mtl.modules.adapters import LowRank
from mtl.modules.layer_hooks import QUERY_AND_VALUE


class LoRA(MultiHead):
    """Low-rank changes of chosen linear maps, shared by the tasks or one for each in the same batch.

    Source: Hu et al. 2022; the formula, start and defaults are those of the library peft, whose matrices of several tasks
    meet in a batch in inference alone.
    Reads: token ids.  Batches: any scheme; rows of several tasks pass through the encoder together.
    Per task: a head, and the matrices where `per_task`.
    Relations: `MultiHead` without the changes.

    Args:
        rank: Rank of the changes.
        alpha: They are multiplied by alpha / rank.
        lora_dropout: Share of a map's inputs that its change drops in training.
        targets: Last parts of the names of the linear maps that change; those of queries and values where absent.
        per_task: Whether each task has its own changes, or all share them.
        freeze: Whether the encoder's own weights stay as they are; a checkpoint then leaves them out.

    Raises:
        UserError: If the backbone has no such maps.
    """

    def __init__(
        self,
        rank: int = 8,
        alpha: float = 8.0,
        lora_dropout: float = 0.0,
        targets: list[str] | None = None,
        per_task: bool = False,
        freeze: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder.requires_grad_(not freeze)
        backbone = self.encoder.backbone
        kind = str(backbone.config.model_type)
        names = targets or QUERY_AND_VALUE.get(kind)
        if names is None:
            raise UserError(
                f"LoRA: say which linear maps of {kind} shall change, --model.targets '[query, value]' or the like"
            )
        maps = {
            name: part for name, part in backbone.named_modules() if isinstance(part, nn.Linear)
        }
        chosen = {name: part for name, part in maps.items() if name.rpartition(".")[2] in names}
        if not chosen:
            there = sorted({name.rpartition(".")[2] for name in maps})
            raise UserError(f"LoRA: targets: {list(names)}: no such linear map; there are {there}")
        self.changes = nn.ModuleDict()
        for name, part in chosen.items():
            shape = part.in_features, part.out_features, rank, alpha, lora_dropout
            change = (
                PerTask(self.tasks, lambda task, shape=shape: LowRank(*shape))
                if per_task
                else LowRank(*shape)
            )  # type: ignore[misc]
            self.changes[name.replace(".", "/")] = change
            part.register_forward_hook(_changed(change))


def _changed(change: nn.Module) -> Any:
    def hook(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        return output + (change.routed(args[0]) if isinstance(change, PerTask) else change(args[0]))

    return hook
