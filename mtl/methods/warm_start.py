"""Warm start (`--model.init_from`): initializes a method with the weights of another run."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from mtl.errors import UserError
from mtl.tasks import Task
from mtl.training.checkpoints import read_checkpoint
from mtl.training.run_folder import find_checkpoint


class WeightMatch(NamedTuple):
    """The result of matching the weights of another model.

    Attributes:
        weights: Matched weights by their names in this model.
        new: Modules of this model that keep their initialization.
        unused: Modules of the other model that match nothing.
    """

    weights: dict[str, Tensor]
    new: list[str]
    unused: list[str]


def load_matching_weights(
    module: LightningModule, tasks: Sequence[Task], source: Path
) -> Iterable[str]:
    """Loads the weights of another run wherever they match.

    Args:
        module: The method.
        tasks: Its tasks.
        source: A checkpoint, or the folder of a run.

    Returns:
        Names of the loaded weights.

    Raises:
        UserError: If no weight of the encoder matches.
    """
    path = find_checkpoint(str(source), None, "test")
    checkpoint = read_checkpoint(path)
    arguments: dict[str, Any] = checkpoint["hyper_parameters"]
    match = match_weights(
        module.state_dict(), checkpoint["state_dict"], tasks, arguments.get("tasks", [])
    )
    if all(name.startswith("head") for name in match.weights):
        raise UserError(
            f"--model.init_from {source}: no encoder weight of {path} fits this model: it has "
            f"another backbone, or a method with other modules (there: "
            f"{', '.join(match.unused[:3])}; here: {', '.join(match.new[:3])}); give a run with "
            "the same backbone"
        )
    module.load_state_dict(match.weights, strict=False)
    new, unused = (", ".join(modules) or "none" for modules in (match.new, match.unused))
    rank_zero_info(
        f"loaded {len(match.weights)} tensors of {path}; newly initialized: {new}; unused: {unused}"
    )
    _warn_about_pooling(match, arguments.get("pooling"), module.hparams.get("pooling"))
    return match.weights.keys()


def match_weights(
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    tasks: Sequence[Task],
    their_tasks: Sequence[Any],
) -> WeightMatch:
    """Matches the weights of another model to this model's by name and shape.

    A backbone matches in all methods that contain it unchanged, under whatever name: with a
    masked-LM head, one per task, or with layers that are copied per task. A classifier that the
    other model's tasks share matches the head of a task that is one of them, or that has exactly
    the same classes.

    Args:
        ours: This model's weights by name.
        theirs: The other model's weights by name.
        tasks: This model's tasks.
        their_tasks: The other model's tasks, as its checkpoint stores them.
    """
    sharing = _tasks_with_same_classes(tasks, [Task.read(task) for task in their_tasks])
    backbone = {inner: name for name in theirs if (inner := _name_in_backbone(name))}
    weights, used = {}, set()
    for name, value in ours.items():
        inner = _name_in_backbone(name) or ""
        candidates = [name, backbone.get(inner, ""), backbone.get(_plain_layer(inner), "")]
        head = re.fullmatch(r"heads\.([^.]+)\.(.+)", name)
        if head and head[1] in sharing:
            candidates.append(f"head.{head[2]}")
        for candidate in candidates:
            if candidate in theirs and theirs[candidate].shape == value.shape:
                weights[name] = theirs[candidate]
                used.add(candidate)
                break
    return WeightMatch(
        weights, _modules(ours.keys() - weights.keys()), _modules(theirs.keys() - used)
    )


def _name_in_backbone(name: str) -> str | None:
    """The name of a weight inside the backbone, or None if it is not a backbone's weight."""
    match = re.fullmatch(
        r"(?:encoder|encoders\.[^.]+)\.backbone\.(.+)|encoder\.model\.[^.]+\.(.+)", name
    )
    return (match[1] or match[2]) if match else None


def _plain_layer(name: str) -> str:
    """The name of the shared layer that a task's copy (`TaskLayers`) corresponds to."""
    return re.sub(r"\.per_task\.[^.]+\.", ".", name, count=1)


def _tasks_with_same_classes(tasks: Sequence[Task], theirs: Sequence[Task]) -> set[str]:
    """Names of the tasks that a classifier shared by the other model's tasks can predict."""
    return {
        task.name
        for task in tasks
        if any(task.name == other.name and task.kind.same_outputs(other.kind) for other in theirs)
        or (theirs and all(task.kind.same_outputs(other.kind) for other in theirs))
    }


def _modules(names: Iterable[str]) -> list[str]:
    """The first two components of each name."""
    return sorted({".".join(name.split(".")[:2]) for name in names})


def _warn_about_pooling(match: WeightMatch, theirs: str | None, ours: str | None) -> None:
    heads = any(name.startswith("head") for name in match.weights)
    if heads and theirs and ours and theirs != ours:
        rank_zero_warn(
            f"the head was trained with pooling {theirs!r}, but this model uses pooling {ours!r}"
        )
