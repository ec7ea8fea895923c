"""How far a row lies from the front of fixed loss weights.

Pure functions of scores in points. A mean over tasks hides trade-offs: a balancer may only have
moved along the front that fixed weights reach. The distance of a row m from the fixed weights w is

    e(m) = min over w of max over tasks (score of m - score of w)

Positive: for every weighting there is a task in which the row is better. Negative: one weighting is
better in every task. Between weightings that were tried there are gaps, in which every point has a
positive distance; the distance of each weighting from the others shows how large they are.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from mtl.compare.decision import ALPHA, Verdict, verdict_of
from mtl.compare.estimate import RowScores, estimate


class Position(StrEnum):
    """Where a row lies, by the interval of its distance."""

    BEYOND = "beyond"
    ON = "on"
    BEHIND = "behind"
    UNDECIDED = "undecided"


POSITIONS = {
    Verdict.BETTER: Position.BEYOND,
    Verdict.NO_WORSE: Position.ON,
    Verdict.WORSE: Position.BEHIND,
    Verdict.UNDECIDED: Position.UNDECIDED,
}


class FrontDistance(NamedTuple):
    """The distance of a row from the front.

    Attributes:
        distance: The distance of the means over seeds, in points.
        low: Lower end of its interval.
        high: Upper end.
        nearest: The weighting at which the minimum lies.
    """

    distance: float
    low: float
    high: float
    nearest: str

    def position(self, margin: float) -> Position:
        """Beyond the front (low > 0), behind it (high < 0), on it (low > -margin), or undecided."""
        return POSITIONS[verdict_of(self.low, self.high, margin)]


def front_distance(
    row: Sequence[RowScores],
    front: Mapping[str, Sequence[RowScores]],
    *,
    comparisons: int = 1,
    paired: bool = False,
) -> FrontDistance:
    """The distance of a row from the front, with an interval that covers both sources of noise.

    The interval is that of a union of intersections. "Beyond" claims for every weighting that one
    of K tasks is better: each difference has the level alpha / K, and no correction over the
    weightings is needed. "Behind" claims for one of W weightings that all tasks are worse: alpha /
    W, without a correction over the tasks (Berger 1982). Resampling the distance itself would not
    do: the largest of several noisy differences is above 0 for a row that is a weighting, and a
    resample adds noise to it once more.

    Args:
        row: The row's scores in each task; two seeds at least, as for every row of the front.
        front: For each weighting its scores in each task.
        comparisons: Number of rows that are measured against the front (Bonferroni).
        paired: Whether the seed draws the training subset, which the rows then share.
    """
    found = {
        name: [estimate(*pair, paired=paired) for pair in zip(row, scores, strict=True)]
        for name, scores in front.items()
    }
    below = ALPHA / comparisons / len(row)
    above = ALPHA / comparisons / len(front)
    worst = {name: max(one.difference for one in tasks) for name, tasks in found.items()}
    return FrontDistance(
        min(worst.values()),
        min(max(one.interval(below)[0] for one in tasks) for tasks in found.values()),
        min(max(one.interval(above)[1] for one in tasks) for tasks in found.values()),
        min(worst, key=lambda name: worst[name]),
    )


def yardstick(front: Mapping[str, Sequence[RowScores]]) -> dict[str, float]:
    """The distance of each weighting from the front of the others."""
    return {
        name: min(
            max(
                float(mine.scores.mean() - theirs.scores.mean())
                for mine, theirs in zip(scores, others, strict=True)
            )
            for other, others in front.items()
            if other != name
        )
        for name, scores in front.items()
    }
