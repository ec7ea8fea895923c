"""Which weights of another run a model starts from."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from mtl.tasks import Task


class Start(NamedTuple):
    """What a model takes of another.

    Attributes:
        taken: Weights by the names that the model has for them.
        anew: Parts of the model that start anew.
        left: Parts of the other that the model has no place for.
    """

    taken: dict[str, Tensor]
    anew: list[str]
    left: list[str]


def start_of(
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    tasks: Sequence[Task],
    their_tasks: Sequence[Any],
) -> Start:
    """Weights of another model wherever they have a place: the same name and shape, or the same part under another name.

    The backbone is the same part in every method that has it whole: beside a masked-LM head, or one for each task. A head
    that all tasks of the other model share fits a task that is among them, or one of the very same classes.

    Args:
        ours: The model's weights by name.
        theirs: The other's.
        tasks: The model's tasks.
        their_tasks: The other's, as its checkpoint holds them.
    """
    sharing = _sharing(tasks, [Task.read(task) for task in their_tasks])
    backbone = {part: name for name in theirs if (part := _of_backbone(name))}
    taken, used = {}, set()
    for name, value in ours.items():
        candidates = [name, backbone.get(_of_backbone(name) or "", "")]
        if found := re.fullmatch(r"heads\.([^.]+)\.(.+)", name):
            candidates += [f"head.{found[2]}"] if found[1] in sharing else []
        for candidate in candidates:
            if candidate in theirs and theirs[candidate].shape == value.shape:
                taken[name] = theirs[candidate]
                used.add(candidate)
                break
    return Start(taken, _parts(ours.keys() - taken.keys()), _parts(theirs.keys() - used))


def _of_backbone(name: str) -> str | None:
    """What a weight of a backbone is called in it, however a method holds the backbone; None for other weights."""
    found = re.fullmatch(
        r"(?:encoder|encoders\.[^.]+)\.backbone\.(.+)|encoder\.model\.[^.]+\.(.+)", name
    )
    return (found[1] or found[2]) if found else None


def _sharing(tasks: Sequence[Task], theirs: Sequence[Task]) -> set[str]:
    same = {(task.name, *task.classes) for task in theirs}
    alike = theirs and all(task.classes == theirs[0].classes for task in theirs)
    return {
        task.name
        for task in tasks
        if task.classes
        and ((task.name, *task.classes) in same or (alike and task.classes == theirs[0].classes))
    }


def _parts(names: Iterable[str]) -> list[str]:
    return sorted({".".join(name.split(".")[:2]) for name in names})
