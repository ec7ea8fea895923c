"""What a number of seeds can tell, before and after training.

Pure functions. Differences are in points (hundredths), levels are two-sided.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

POWER = 0.8
# More seeds than this are never proposed.
MAX_SEEDS = 1000


@dataclass(frozen=True)
class Noise:
    """The noise of a comparison.

    Args:
        seed_deviation: S, standard deviation of a row's score over seeds, in points. Of two rows,
            the root of the mean variance.
        test_variance: W, variance of the difference that comes from the finite test set.
        test_examples: Number of test examples; of a mean over tasks, of the smallest test set.
        paired: Whether the rows are paired by seed.
    """

    seed_deviation: float = 2.0
    test_variance: float = 0.0
    test_examples: int = 1000
    paired: bool = False

    def standard_error(self, seeds: int) -> float:
        """Standard error of the difference with that many seeds per row."""
        return math.sqrt(2 * self.seed_deviation**2 / seeds + self.test_variance)

    def df(self, seeds: int) -> float:
        """Degrees of freedom by Satterthwaite; infinite without noise."""
        each = self.seed_deviation**2 / seeds
        terms = (4 if self.paired else 2) * each**2 / (seeds - 1)
        terms += self.test_variance**2 / (self.test_examples - 1)
        return self.standard_error(seeds) ** 4 / terms if terms else math.inf


def mean_noise(noises: Sequence[Noise]) -> Noise | None:
    """The mean noise of several comparisons, by variances; None if there are none."""
    if not noises:
        return None
    return Noise(
        math.sqrt(statistics.fmean(noise.seed_deviation**2 for noise in noises)),
        statistics.fmean(noise.test_variance for noise in noises),
        min(noise.test_examples for noise in noises),
        noises[0].paired,
    )


def half_width(noise: Noise, seeds: int, level: float = 0.05) -> float:
    """Expected half-width of the interval.

    Args:
        noise: The noise.
        seeds: Seeds of each row, at least two.
        level: Two-sided level: 0.05 divided by the number of rows compared with the baseline.
    """
    return float(stats.t.ppf(1 - level / 2, noise.df(seeds))) * noise.standard_error(seeds)


def detectable_difference(noise: Noise, seeds: int, level: float = 0.05) -> float:
    """The difference that is called better or worse with 80 % power.

    Args:
        noise: The noise.
        seeds: Seeds of each row, at least two.
        level: Two-sided level: 0.05 divided by the number of rows compared with the baseline.
    """
    return _quantiles(noise.df(seeds), level) * noise.standard_error(seeds)


def seeds_needed(noise: Noise, target: float, level: float = 0.05) -> int | None:
    """Smallest number of seeds that detects a difference with 80 % power.

    Args:
        noise: The noise.
        target: The difference in points.
        level: Two-sided level: 0.05 divided by the number of rows compared with the baseline.

    Returns:
        Seeds of each row; None if no number of seeds is enough, because the test set is too small.
    """
    if detectable_difference(noise, MAX_SEEDS, level) > target:
        return None
    low, high = 2, MAX_SEEDS
    while low < high:
        middle = (low + high) // 2
        if detectable_difference(noise, middle, level) <= target:
            high = middle
        else:
            low = middle + 1
    return low


def examples_needed(noise: Noise, target: float, level: float = 0.05) -> int:
    """Test examples with which the test set alone no longer hides a difference.

    Args:
        noise: The noise, measured with `noise.test_examples` test examples.
        target: The difference in points.
        level: Two-sided level: 0.05 divided by the number of rows compared with the baseline.

    Returns:
        Number of test examples in total, of the smallest test set.
    """
    quantiles = _quantiles(noise.test_examples - 1, level)
    return math.ceil(noise.test_examples * noise.test_variance * quantiles**2 / target**2)


def needed_sentence(noise: Noise, seeds: int, target: float, level: float) -> str:
    """What would decide an undecided comparison.

    Args:
        noise: The noise of the comparison.
        seeds: Seeds that each row has; 0 if no row is trained.
        target: The difference of interest, in points; never the difference observed.
        level: Two-sided level of the interval.
    """
    difference = f"a difference of {target:g} {'point' if target == 1 else 'points'}"
    needed = seeds_needed(noise, target, level)
    if needed is None:
        total = examples_needed(noise, target, level)
        more = total - noise.test_examples
        if more > 0:
            return (
                f"no number of seeds would detect {difference}: about {more:,} more test examples "
                "of each task are needed"
            )
        return f"more than {MAX_SEEDS:,} seeds would be needed to detect {difference}"
    if needed <= seeds or not seeds:
        return f"{difference} would have been detected with 80 % power, so a smaller one is likely"
    more = needed - seeds
    return f"about {more} more {'seed' if more == 1 else 'seeds'} would detect {difference}"


def _quantiles(df: float, level: float) -> float:
    return float(stats.t.ppf(1 - level / 2, df) + stats.t.ppf(POWER, df))
