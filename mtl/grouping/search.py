"""The best groups of tasks for a number of encoders."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from mtl.grouping.gains import Gains


class Group(NamedTuple):
    """A group of tasks that are trained together.

    Attributes:
        trained: The tasks that are trained.
        answered: Those among them that this group gains most for; the others help.
    """

    trained: tuple[str, ...]
    answered: tuple[str, ...]


def best_groups(tasks: Sequence[str], gains: Gains, encoders: int) -> list[Group]:
    """The groups with the largest sum over tasks of the gain, each task in its best group.

    Exact, by branch and bound. Each task in turn joins the tasks that one of the encoders answers,
    or gets a new encoder. An encoder that answers at least the tasks U trains a group that contains
    U, so it gains at most the maximum over these groups of the sum of the gains in U; a task that
    is not assigned yet gains at most its maximum over all groups. Of equally good solutions the one
    with fewer encoders, and fewer trained tasks, is returned.

    Source: Standley et al. 2020, section 5: networks under a budget, each task answered by the best
    network that trains it. Their budget counts time at inference; here every encoder costs the
    same.

    Args:
        tasks: Names of the tasks.
        gains: The gain of each task in each group.
        encoders: The largest number of encoders.
    """
    groups = sorted(gains, key=lambda group: (len(group), [task not in group for task in tasks]))
    inside = np.array([[task in group for task in tasks] for group in groups])
    values = np.array([[gains[group].get(task, -np.inf) for task in tasks] for group in groups])
    most = values.max(0)

    @cache
    def best(answered: frozenset[int]) -> tuple[float, int]:
        """The largest sum of the gains of some tasks, and the index of its group."""
        chosen = sorted(answered)
        sums = np.where(inside[:, chosen].all(1), values[:, chosen].sum(1), -np.inf)
        index = int(sums.argmax())
        return float(sums[index]), index

    incumbent: tuple[float, list[frozenset[int]]] = (-np.inf, [])

    def extend(task: int, parts: list[frozenset[int]]) -> None:
        nonlocal incumbent
        bound = sum(best(part)[0] for part in parts) + most[task:].sum()
        # Differences in the last bits are no improvement.
        if bound <= incumbent[0] + 1e-12:
            return
        if task == len(tasks):
            incumbent = bound, parts
            return
        for index, part in enumerate(parts):
            extend(task + 1, [*parts[:index], part | {task}, *parts[index + 1 :]])
        if len(parts) < encoders:
            extend(task + 1, [*parts, frozenset([task])])

    extend(0, [])
    return [
        Group(
            tuple(task for task in tasks if task in groups[best(part)[1]]),
            tuple(tasks[index] for index in sorted(part)),
        )
        for part in incumbent[1]
    ]
