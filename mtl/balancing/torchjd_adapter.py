"""torchjd's rules: made by class, and what they remember between steps kept as plain values (`weights_only=True`)."""

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from mtl.errors import UserError

# What belongs to torch.nn.Module itself.
_MODULE = frozenset(vars(nn.Module()))
_NOTHING = object()


def made(make: type[nn.Module], args: dict[str, Any], tasks: int) -> nn.Module:
    """A rule, told how many tasks there are and of its other arguments, lists of numbers as tensors.

    Raises:
        UserError: If the arguments do not fit, or it needs a package that is not installed.
    """
    accepted = inspect.signature(make).parameters
    known = {name: tasks for name in ("shape", "n_tasks") if name in accepted}
    given = {
        name: torch.tensor(value) if isinstance(value, list) else value
        for name, value in args.items()
    }
    try:
        return make(**known | given)
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(
            f"{make.__name__}: {error}; it takes {', '.join(accepted) or 'nothing'}"
        ) from error


def plain_state(rule: nn.Module) -> dict[str, Any]:
    """Everything that changes in a rule: numbers, tensors, lists of them, and an optimiser's state."""
    kept: dict[str, Any] = {}
    for name, value in [*vars(rule).items(), *rule._buffers.items()]:
        if name not in _MODULE and (plain := _plain(value)) is not _NOTHING:
            kept[name] = plain
    parts = {name: plain_state(part) for name, part in rule.named_children()}
    return kept | ({"parts": parts} if parts else {})


def restore(rule: nn.Module, state: dict[str, Any]) -> None:
    """Puts a rule back to where `plain_state` found it."""
    for name, value in state.items():
        if name == "parts":
            for child, kept in value.items():
                restore(rule.get_submodule(child), kept)
        elif isinstance(value, dict) and "array" in value:
            setattr(rule, name, value["array"].numpy())
        elif isinstance(value, dict):  # FAMO's own
            optimizer = Adam(rule.parameters(), lr=rule.lr, weight_decay=rule.weight_decay)  # type: ignore[arg-type]
            optimizer.load_state_dict(value["optimizer"])
            setattr(rule, name, optimizer)
        else:
            setattr(rule, name, value)
    # A state that is told by its tensor's shape has to be known as one of this kind, or it would start anew.
    if "_state_key" in vars(rule) and isinstance(phi := state.get("_phi_t"), Tensor):
        rule._state_key = (len(phi), phi.dtype)  # type: ignore[assignment]
    if hasattr(rule, "_init_optim_problem") and state.get("step"):
        rule._init_optim_problem()  # type: ignore[operator]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Optimizer):
        return {"optimizer": value.state_dict()}
    if isinstance(value, np.ndarray):
        return {"array": torch.from_numpy(value.copy())}
    if isinstance(value, list | tuple):
        parts = [_plain(part) for part in value]
        return _NOTHING if any(part is _NOTHING for part in parts) else type(value)(parts)
    return _NOTHING
