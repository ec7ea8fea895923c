"""The difference between two rows, with the noise of seeds and of the finite test set.

Pure functions of scores in points (hundredths).
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class RowScores:
    """The scores of one row.

    Args:
        row: Name of the row.
        scores: One score per seed, in points.
        resampled: The same scores on bootstrap resamples of the test examples, shape (seeds,
            resamples); every row on the same resamples. None if the predictions were not saved.
        test_examples: Number of test examples; of a mean over tasks, of the smallest test set.
        trained: Whether the row involves training. If not, seeds add no noise and one evaluation
            is enough.
        first_stage: Whether all seeds start from one shared first-stage run.
    """

    row: str
    scores: Floats
    resampled: Floats | None = None
    test_examples: int | None = None
    trained: bool = True
    first_stage: bool = False

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.scores)

    def first(self, seeds: int) -> "RowScores":
        """The scores of the first seeds only; of a row that is not trained, all."""
        return self.chosen(list(range(min(seeds, self.seeds)))) if self.trained else self

    def chosen(self, indices: list[int]) -> "RowScores":
        """The scores of some seeds, by their index."""
        resampled = None if self.resampled is None else self.resampled[indices]
        return replace(self, scores=self.scores[indices], resampled=resampled)


class Estimate(NamedTuple):
    """A difference between two rows and its noise.

    Attributes:
        difference: The difference of the means over seeds.
        seed_terms: Contribution of the seeds to the squared standard error, with the degrees of
            freedom of each.
        test_variance: W, the contribution of the finite test set; NaN if not measured.
        test_examples: Number of test examples; None if not known.
    """

    difference: float
    seed_terms: tuple[tuple[float, int], ...]
    test_variance: float
    test_examples: int | None

    @property
    def standard_error(self) -> float:
        """The standard error; without W if it was not measured."""
        return math.sqrt(sum(variance for variance, _ in self.seed_terms) + self._w)

    @property
    def df(self) -> float:
        """Degrees of freedom by Satterthwaite; infinite without noise."""
        terms = sum(variance**2 / df for variance, df in self.seed_terms)
        if self._w and self.test_examples:
            terms += self._w**2 / (self.test_examples - 1)
        return self.standard_error**4 / terms if terms else math.inf

    @property
    def p(self) -> float:
        """Two-sided p-value of no difference; NaN without noise."""
        if not self.standard_error:
            return math.nan
        return float(2 * stats.t.sf(abs(self.difference) / self.standard_error, self.df))

    def interval(self, level: float) -> tuple[float, float]:
        """The interval that misses the expected difference with probability `level`."""
        half = float(stats.t.ppf(1 - level / 2, self.df)) * self.standard_error
        return self.difference - half, self.difference + half

    @property
    def _w(self) -> float:
        return 0.0 if math.isnan(self.test_variance) else self.test_variance


def estimate(row: RowScores, baseline: RowScores, *, paired: bool = False) -> Estimate:
    """The difference between a row and its baseline, with both sources of noise.

    Args:
        row: The row. A trained row needs two seeds.
        baseline: Its baseline, evaluated on the same test examples.
        paired: Whether the seed draws the training subset, which both rows then share. Score s of
            the one belongs to score s of the other.
    """
    difference = float(row.scores.mean() - baseline.scores.mean())
    paired = paired and row.trained and baseline.trained
    groups = [row.scores - baseline.scores] if paired else [row.scores, baseline.scores]
    trained = [True] if paired else [row.trained, baseline.trained]
    seed_terms = tuple(
        (float(scores.var(ddof=1)) / len(scores), len(scores) - 1)
        for scores, noisy in zip(groups, trained, strict=True)
        if noisy
    )
    sizes = [size for size in (row.test_examples, baseline.test_examples) if size is not None]
    examples = min(sizes, default=None)
    if row.resampled is None or baseline.resampled is None:
        return Estimate(difference, seed_terms, math.nan, examples)
    resampled = (
        [row.resampled - baseline.resampled] if paired else [row.resampled, baseline.resampled]
    )
    own = sum(_own_noise(draws) for draws, noisy in zip(resampled, trained, strict=True) if noisy)
    drawn = row.resampled.mean(0) - baseline.resampled.mean(0)
    test_variance = max(0.0, float(drawn.var(ddof=1)) - own)
    return Estimate(difference, seed_terms, test_variance, examples)


def _own_noise(resampled: Floats) -> float:
    """What the seeds' variance over n already contains: each seed's own noise on test examples."""
    each, together = resampled.var(1, ddof=1).mean(), resampled.mean(0).var(ddof=1)
    return float(each - together) / (len(resampled) - 1)
