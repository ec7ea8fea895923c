"""Frozen weights: restored from the backbone and verified, instead of saved in checkpoints."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from mtl.errors import UserError
from mtl.modules.backbone import BackboneModule
from mtl.training.checkpoints import tensors_digest


class FrozenWeights:
    """Whether a method's frozen weights are those of its backbone, and their digest.

    Attributes:
        digest: SHA-256 of the frozen weights, as they were loaded; None if nothing is frozen.
        in_checkpoints: Whether checkpoints contain them, because the backbone cannot restore them:
            they were loaded from another run (`init_from`), or a callback unfreezes them later.
        trained_before: Names of frozen weights that another run trained: checkpoints contain them.
    """

    def __init__(self) -> None:
        self.digest: str | None = None
        self.in_checkpoints = False
        self.trained_before: set[str] = set()

    def names(self, module: nn.Module) -> list[str]:
        """Names of the weights that are not trained and that loading the backbone restores."""
        return [name for name in frozen_names(module) if name not in self.trained_before]

    def compute_digest(self, module: nn.Module) -> None:
        """Stores the digest. Call it while the weights are in fp32 and not sharded."""
        self.digest = frozen_digest(module, self.names(module))

    def loaded(self, module: nn.Module, names: Iterable[str]) -> None:
        """Records that weights of these names were loaded from another run or a checkpoint."""
        names = set(names)
        self.in_checkpoints = any(name in names for name in self.names(module))

    def save(self, module: nn.Module, checkpoint: dict[str, Any]) -> None:
        """Removes the frozen weights from a checkpoint, and adds their digest."""
        for name in self.names(module) if not self.in_checkpoints else ():
            checkpoint["state_dict"].pop(name, None)
        checkpoint["frozen"] = None if self.in_checkpoints else self.digest

    def restore(self, module: nn.Module, checkpoint: dict[str, Any], backbone: str) -> None:
        """Adds the frozen weights to a checkpoint that does not contain them.

        Args:
            module: The method, with the weights of its backbone.
            checkpoint: The checkpoint.
            backbone: Name of the backbone, for the message.

        Raises:
            UserError: If the backbone's weights are not those of the training.
        """
        saved, current = checkpoint["state_dict"], module.state_dict()
        self.loaded(module, saved)
        if self.in_checkpoints:
            return
        if checkpoint.get("frozen") not in (None, frozen_digest(module, self.names(module))):
            raise UserError(
                f"--backbone {backbone}: its weights are not those that the checkpoint was trained "
                "with, and the checkpoint does not contain them; give the same directory, or "
                "NAME@REVISION"
            )
        saved |= {name: current[name] for name in self.names(module)}


def frozen_names(module: nn.Module) -> list[str]:
    """Names of the weights that are not trained, without new ones in the backbone."""
    backbones = (each for each in module.modules() if isinstance(each, BackboneModule))
    new = {id(parameter) for each in backbones for parameter in each.new_parameters}
    return [
        name
        for name, weight in module.named_parameters()
        if not weight.requires_grad and id(weight) not in new
    ]


def frozen_digest(module: nn.Module, names: Sequence[str]) -> str | None:
    """SHA-256 of the names and values of frozen weights; None if there are none."""
    return tensors_digest((name, module.get_parameter(name)) for name in names) if names else None
