"""Constructs and applies torchjd's weightings and scalarizers, and saves their state.

torchjd keeps state in plain attributes, which `state_dict` does not contain. Checkpoints are loaded
with `weights_only=True`, so the state is saved as tensors and plain Python values.
"""

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from mtl.errors import UserError

# Attributes of every module.
_MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))
_NO_STATE = object()


def construct(cls: type[nn.Module], args: dict[str, Any], tasks: int) -> nn.Module:
    """Constructs a weighting or scalarizer.

    Args:
        cls: Its class.
        args: Its arguments; lists of numbers are passed as tensors.
        tasks: Number of tasks, passed as `shape` or `n_tasks` if the class takes one of them.

    Raises:
        UserError: If the arguments do not fit, or a package is missing.
    """
    accepted = inspect.signature(cls).parameters
    task_args = {name: tasks for name in ("shape", "n_tasks") if name in accepted}
    user_args = {
        name: torch.tensor(value) if isinstance(value, list) else value
        for name, value in args.items()
    }
    try:
        return cls(**task_args | user_args)
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(
            f"{cls.__name__}: {error}; it takes {', '.join(accepted) or 'no arguments'}"
        ) from error


def apply_weighting(weighting: Any, gramian: Tensor) -> Tensor:
    """Weights of the gradients, shape (tasks,), from their inner products, shape (tasks, tasks)."""
    # An aggregator has a weighting; a weighting is used directly.
    inner = getattr(weighting, "weighting", weighting)
    inner = getattr(weighting, "gramian_weighting", inner)
    if not any(base.__name__ == "_MatrixWeighting" for base in type(inner).__mro__):
        return inner(gramian)
    # It takes the matrix of gradients, but uses only their inner products. So any matrix with the
    # same inner products gives the same weights.
    values, vectors = torch.linalg.eigh(gramian.double())
    return inner((vectors * values.clamp(min=0).sqrt()).to(gramian))


def plain_state(module: nn.Module) -> dict[str, Any]:
    """Collects the state of a module: numbers, tensors, lists of them, and an optimizer's state."""
    state: dict[str, Any] = {}
    for name, value in [*vars(module).items(), *module._buffers.items()]:
        if name not in _MODULE_ATTRIBUTES and (savable := _savable(value)) is not _NO_STATE:
            state[name] = savable
    children = {name: plain_state(child) for name, child in module.named_children()}
    return state | ({"parts": children} if children else {})


def restore(module: Any, state: dict[str, Any]) -> None:
    """Restores the state of a module from `plain_state`."""
    for name, value in state.items():
        if name == "parts":
            for child, child_state in value.items():
                restore(module.get_submodule(child), child_state)
        elif isinstance(value, dict) and "array" in value:
            setattr(module, name, value["array"].numpy())
        elif isinstance(value, dict):  # FAMO's optimizer
            optimizer = Adam(module.parameters(), lr=module.lr, weight_decay=module.weight_decay)
            optimizer.load_state_dict(value["optimizer"])
            setattr(module, name, optimizer)
        else:
            setattr(module, name, value)
    # GradVac resets its state if the number of tasks or the dtype differs from the last call's.
    if "_state_key" in vars(module) and isinstance(phi := state.get("_phi_t"), Tensor):
        module._state_key = (len(phi), phi.dtype)
    # Nash-MTL makes its optimization problem in the first step.
    if hasattr(module, "_init_optim_problem") and state.get("step"):
        module._init_optim_problem()


def _savable(value: Any) -> Any:
    """The value in types that `weights_only=True` accepts; `_NO_STATE` if that is impossible."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Optimizer):
        return {"optimizer": value.state_dict()}
    if isinstance(value, np.ndarray):
        return {"array": torch.from_numpy(value.copy())}
    if isinstance(value, list | tuple):
        items = [_savable(item) for item in value]
        return _NO_STATE if any(item is _NO_STATE for item in items) else type(value)(items)
    return _NO_STATE
