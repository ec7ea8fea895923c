"""Measured transfer between tasks, from the results of joint and single-task runs."""

import math
import statistics
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

from scipy.stats import spearmanr

from mtl.compare.events import read_scalars
from mtl.compare.results import Results, TaskDifference
from mtl.grouping.gains import Gains

# A value for each pair of tasks, by task index; None on the diagonal.
Matrix = list[list[float | None]]
# The gain of the first task from the second one.
PairGains = dict[tuple[str, str], TaskDifference]


def group_row(tasks: Iterable[str], group: frozenset[str]) -> str:
    """The name of a group's row."""
    return " + ".join(task for task in tasks if task in group)


def group_gains(results: Results, tasks: Sequence[str], groups: Iterable[frozenset[str]]) -> Gains:
    """How much each task of a group gains in test score, in points, over training alone."""
    return {
        group: {
            task: statistics.fmean(results.scores(group_row(tasks, group), task))
            - statistics.fmean(results.scores("single", task))
            for task in group
        }
        for group in groups
    }


def pairwise_gains(results: Results, tasks: list[str]) -> PairGains:
    """How much each task gains in test score, in points, from training with each other one.

    By the first task (helped) and the second one (helper). With one seed only the difference is
    known.

    Args:
        results: The results of the plan of `definition`.
        tasks: Names of the tasks.
    """
    found: PairGains = {}
    for first, second in combinations(tasks, 2):
        row = f"{first} + {second}"
        for helped, helper in ((first, second), (second, first)):
            scores, alone = (results.scores(each, helped) for each in (row, "single"))
            unknown = TaskDifference(
                statistics.fmean(scores) - statistics.fmean(alone), math.nan, math.nan, math.nan
            )
            found[helped, helper] = results.task_decisions.get((row, helped), unknown)
    return found


def gradient_cosines(folders: list[Path], tasks: list[str]) -> Matrix:
    """The mean cosine between the gradients of each pair of tasks in joint runs.

    From their TensorBoard events.

    Args:
        folders: Folders of the joint runs.
        tasks: Names of the tasks.
    """
    prefix = "conflicts/cosine/"
    logged = [read_scalars(folder, prefix) for folder in folders]
    cosines: Matrix = [[None] * len(tasks) for _ in tasks]
    for first, second in combinations(range(len(tasks)), 2):
        tags = [f"{prefix}{tasks[a]}-{tasks[b]}" for a, b in ((first, second), (second, first))]
        values = [value for run in logged for tag in tags for _, value in run.get(tag, [])]
        if values:
            cosines[first][second] = cosines[second][first] = statistics.fmean(values)
    return cosines


def rank_correlation(gains: Matrix, cosines: Matrix) -> float:
    """Spearman's rank correlation over pairs of a pair's mean gain and its cosine.

    NaN for fewer than three pairs.

    Args:
        gains: Gains, shape (tasks, tasks).
        cosines: Cosines, shape (tasks, tasks).
    """
    pairs = []
    for first, second in combinations(range(len(gains)), 2):
        one, other, cosine = gains[first][second], gains[second][first], cosines[first][second]
        if one is not None and other is not None and cosine is not None:
            pairs.append((statistics.fmean((one, other)), cosine))
    return float(spearmanr(*zip(*pairs, strict=True)).statistic) if len(pairs) > 2 else math.nan
