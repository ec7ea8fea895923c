"""Statements about several comparisons at once.

Per-task p-values, the best of several rows, and all tasks of one row.
"""

import math
from collections.abc import Sequence

from mtl.compare.decision import ALPHA
from mtl.compare.estimate import Estimate, RowScores, estimate


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for multiple tests (Holm 1979).

    For exploratory per-task differences only. NaN stays NaN and does not count as a test.

    Args:
        p_values: P-values of one family of tests.
    """
    known = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    corrected, highest = list(p_values), 0.0
    for rank, index in enumerate(sorted(known, key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(known) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def possibly_best(
    rows: Sequence[RowScores], *, paired: bool = False, alpha: float = ALPHA
) -> list[str]:
    """Names of the possibly best rows (multiple comparisons with the best).

    All rows whose simultaneous interval against the highest row contains 0. The best row is among
    them with probability 1 - alpha.

    Source: Hsu 1981, with Bonferroni's bound in place of equal variances.

    Args:
        rows: The rows. Trained rows with one seed are skipped: their noise is not known.
        paired: Whether the seed draws the training subset, which the rows then share.
        alpha: Level.
    """
    compared = [row for row in rows if row.seeds > 1 or (row.seeds and not row.trained)]
    if len(compared) < 2:
        return [row.row for row in compared]
    highest = max(compared, key=lambda row: float(row.scores.mean()))
    level = alpha / (len(compared) - 1)
    return [
        row.row
        for row in compared
        if row is highest or estimate(row, highest, paired=paired).interval(level)[1] >= 0
    ]


def no_task_loses(tasks: Sequence[Estimate], margin: float, level: float = ALPHA) -> bool:
    """Whether no task loses more than the margin (intersection-union test).

    Every lower bound is above -margin. No correction over tasks is needed, because the statement
    holds only if all of its parts do.

    Source: Berger 1982.

    Args:
        tasks: The difference of each task.
        margin: Largest loss in points.
        level: Two-sided level of the intervals.
    """
    return all(task.interval(level)[0] > -margin for task in tasks)
