"""Whether a row differs from its baseline: the estimate, its interval and the verdict.

Pure functions of scores in points (hundredths). `docs/decision.md` explains the rule. The interval
covers two sources of noise at once: the seed, and the finite set of test examples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from mtl.compare.estimate import Estimate, RowScores, estimate
from mtl.compare.planning import Noise, needed_sentence

ALPHA = 0.05
# Satterthwaite's degrees of freedom are loose below this number of seeds.
FEW_SEEDS = 5


class Verdict(StrEnum):
    """What an interval says about a difference."""

    BETTER = "better"
    WORSE = "worse"
    NO_WORSE = "no worse"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Decision:
    """The comparison of a row with its baseline.

    Attributes:
        row: Name of the row.
        baseline: Name of the row that it is compared with.
        verdict: The verdict; None if the rows cannot be compared.
        difference: Difference of the means in points; NaN without scores.
        low: Lower end of the simultaneous interval; NaN if there is none.
        high: Upper end; NaN if there is none.
        standard_error: Standard error of the difference; NaN if there is none.
        df: Degrees of freedom; NaN if there are none.
        seeds: Number of seeds of the row.
        baseline_seeds: Number of seeds of the baseline.
        margin: Largest loss in points that counts as "no worse".
        level: Probability that the interval misses the expected difference.
        preliminary: Whether a trained row has fewer than five seeds.
        needed: What would decide an undecided comparison; empty otherwise.
        notes: Conditions of the verdict, such as "given this one first stage".
        reason: Why there is no verdict; empty if there is one.
        noise: The measured noise, for planning; None if there is no verdict.
    """

    row: str
    baseline: str
    verdict: Verdict | None
    difference: float
    low: float
    high: float
    standard_error: float
    df: float
    seeds: int
    baseline_seeds: int
    margin: float
    level: float = ALPHA
    preliminary: bool = False
    needed: str = ""
    notes: Sequence[str] = field(default=())
    reason: str = ""
    noise: Noise | None = None

    def sentence(self) -> str:
        """The verdict as a sentence, with its interval, conditions, and what would decide it."""
        if self.verdict is None:
            return f"no verdict: {self.reason}"
        bounds = f"[{self.low:.1f}, {self.high:.1f}]"
        if self.verdict is Verdict.BETTER:
            text = f"better than {self.baseline} by {self.difference:.1f} {bounds}"
        elif self.verdict is Verdict.WORSE:
            mirrored = f"[{-self.high:.1f}, {-self.low:.1f}]"
            text = f"worse than {self.baseline} by {-self.difference:.1f} {mirrored}"
        elif self.verdict is Verdict.NO_WORSE:
            margin = points(self.margin)
            text = f"no worse than {self.baseline} within {margin}: {self.difference:+.1f} {bounds}"
        else:
            text = f"undecided: {self.difference:+.1f} {bounds}"
        text = "; ".join([text, *([self.needed] if self.needed else [])])
        conditions = [self.seeds_note(), *self.notes] if self.preliminary else list(self.notes)
        return f"{text} ({', '.join(conditions)})" if conditions else text

    def seeds_note(self) -> str:
        """`preliminary (3 seeds)`, or the number of seeds."""
        fewest = min(self.seeds, self.baseline_seeds)
        seeds = f"{max(self.seeds, self.baseline_seeds) if fewest == 1 else fewest} seeds"
        return f"preliminary ({seeds})" if self.preliminary else seeds


def points(value: float) -> str:
    """A number of points in words: `1 point`, `0.5 points`."""
    return f"{value:g} point" if value == 1 else f"{value:g} points"


def verdict_of(low: float, high: float, margin: float) -> Verdict:
    """The verdict of an interval."""
    if low > 0:
        return Verdict.BETTER
    if high < 0:
        return Verdict.WORSE
    return Verdict.NO_WORSE if low > -margin else Verdict.UNDECIDED


def decide(
    row: RowScores,
    baseline: RowScores,
    *,
    comparisons: int = 1,
    margin: float = 1.0,
    target: float = 2.0,
    paired: bool = False,
    level: float | None = None,
) -> Decision:
    """Compares a row with its baseline.

    Args:
        row: The row.
        baseline: Its baseline, evaluated on the same test examples.
        comparisons: Number of rows that are compared with this baseline (Bonferroni).
        margin: Largest loss in points that counts as "no worse".
        target: Difference in points that the advice about further seeds refers to.
        paired: Whether the seed draws the training subset, which both rows then share.
        level: Two-sided level of the interval. Default: 0.05 / comparisons.
    """
    level = ALPHA / comparisons if level is None else level
    if reason := _not_comparable(row, baseline, paired):
        return _without_verdict(row, baseline, margin, level, reason)
    found = estimate(row, baseline, paired=paired)
    if not found.standard_error:
        reason = "the scores do not vary over seeds or test examples, so noise cannot be measured"
        return _without_verdict(row, baseline, margin, level, reason)
    low, high = found.interval(level)
    verdict = verdict_of(low, high, margin)
    trained_seeds = [each.seeds for each in (row, baseline) if each.trained]
    notes = []
    if math.isnan(found.test_variance):
        notes.append("over seeds only: the noise of the test examples was not measured")
    if row.first_stage or baseline.first_stage:
        notes.append("given this one first stage")
    needed = ""
    noise = noise_of(found, trained_seeds, paired=paired)
    if verdict is Verdict.UNDECIDED:
        needed = needed_sentence(noise, min(trained_seeds, default=0), target, level)
    return Decision(
        row.row,
        baseline.row,
        verdict,
        found.difference,
        low,
        high,
        found.standard_error,
        found.df,
        row.seeds,
        baseline.seeds,
        margin,
        level,
        min(trained_seeds, default=FEW_SEEDS) < FEW_SEEDS,
        needed,
        tuple(notes),
        noise=noise,
    )


def noise_of(found: Estimate, seeds: Sequence[int], *, paired: bool = False) -> Noise:
    """The noise of a comparison, for planning.

    Args:
        found: The estimate.
        seeds: Number of seeds of each trained row.
        paired: Whether the rows are paired by seed.
    """
    variances = [
        variance * count for (variance, _), count in zip(found.seed_terms, seeds, strict=False)
    ]
    # Of rows that are not trained the seeds' variance is 0; of paired rows there is one term.
    test_variance = 0.0 if math.isnan(found.test_variance) else found.test_variance
    return Noise(
        math.sqrt(sum(variances) / 2), test_variance, found.test_examples or 1000, paired=paired
    )


def _not_comparable(row: RowScores, baseline: RowScores, paired: bool) -> str:
    for each in (row, baseline):
        if not each.seeds:
            return f"{each.row} has no score"
        if each.trained and each.seeds == 1:
            return f"{each.row} has one seed"
    if paired and row.trained and baseline.trained and row.seeds != baseline.seeds:
        return "the rows are paired by seed and have different seeds"
    return ""


def _without_verdict(
    row: RowScores, baseline: RowScores, margin: float, level: float, reason: str
) -> Decision:
    known = row.seeds and baseline.seeds
    difference = float(row.scores.mean() - baseline.scores.mean()) if known else math.nan
    nan = math.nan
    return Decision(
        row.row,
        baseline.row,
        None,
        difference,
        nan,
        nan,
        nan,
        nan,
        row.seeds,
        baseline.seeds,
        margin,
        level,
        reason=reason,
    )
