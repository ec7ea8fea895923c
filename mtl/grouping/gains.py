"""What each task gains in each group of tasks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from scipy.stats import spearmanr

Gains = Mapping[frozenset[str], Mapping[str, float]]
"""For each group of tasks the gain of each of its tasks over training alone; relative to its loss.
"""


def groups_of(tasks: Sequence[str], largest: int | None = None) -> Iterator[frozenset[str]]:
    """All groups of tasks, the smallest first.

    Args:
        tasks: Names of the tasks.
        largest: Tasks of the largest groups. Default: all tasks.
    """
    for size in range(1, (largest or len(tasks)) + 1):
        yield from map(frozenset, combinations(tasks, size))


def gains_of_affinity(
    affinity: Mapping[tuple[str, str], float], groups: Iterator[frozenset[str]]
) -> Gains:
    """Gains from inter-task affinity: the mean over the other tasks of a group; 0 alone.

    Source: Fifty et al. 2021, section 3.2.

    Args:
        affinity: For each pair (i, j) the affinity of task i onto task j.
        groups: The groups.
    """
    return {
        group: {
            task: sum(affinity[other, task] for other in group - {task}) / max(1, len(group) - 1)
            for task in group
        }
        for group in groups
    }


def mean_gains(several: Sequence[Gains]) -> Gains:
    """The mean of several estimates of the same groups."""
    return {
        group: {task: sum(each[group][task] for each in several) / len(several) for task in group}
        for group in several[0]
    }


class Agreement(NamedTuple):
    """How well an estimate orders what was measured.

    Attributes:
        correlation: Spearman's rank correlation; NaN for fewer than three pairs.
        pairs: Number of pairs of a task and a group of several tasks that contains it.
    """

    correlation: float
    pairs: int


def agreement(measured: Gains, estimated: Gains) -> Agreement:
    """The rank correlation of measured and estimated gains, over tasks and groups of several."""
    values = [
        (gain, estimated[group][task])
        for group, gains in measured.items()
        for task, gain in gains.items()
        if len(group) > 1
    ]
    if len(values) < 3:
        return Agreement(math.nan, len(values))
    return Agreement(float(spearmanr(*zip(*values, strict=True)).statistic), len(values))
