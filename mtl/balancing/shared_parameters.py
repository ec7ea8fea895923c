"""Finds the parameters whose gradients the tasks share."""

from torch import nn

from mtl.balancing.base import Balancer
from mtl.errors import UserError


def shared_parameters(method: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters that several tasks share, by name.

    These are all but the balancer's and those of modules marked `task_specific`.

    Raises:
        UserError: If there are none.
    """
    excluded = set()
    for module in method.modules():
        if isinstance(module, Balancer) or getattr(module, "task_specific", False):
            excluded |= {id(parameter) for parameter in module.parameters()}
    shared = {
        name: parameter
        for name, parameter in method.named_parameters()
        if parameter.requires_grad and id(parameter) not in excluded
    }
    if not shared:
        raise UserError(
            f"{type(method).__name__} has no trainable shared parameters, so the gradients of its "
            "tasks cannot be compared; choose another method, or train without gradient surgery "
            "and GradientConflicts"
        )
    return shared
