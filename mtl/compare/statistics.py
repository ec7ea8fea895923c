"""Whether a difference exceeds the noise.

Pure functions of the scores of seeds and of test examples.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.intp]


class Difference(NamedTuple):
    """A paired difference.

    Attributes:
        mean: The mean of the differences.
        low: Lower end of the 95 % interval; NaN for a single pair, or if all differences are equal.
        high: Upper end; NaN in the same cases.
        p: Two-sided p-value of no difference; NaN in the same cases.
    """

    mean: float
    low: float
    high: float
    p: float


def paired_t(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Student's paired t-test.

    Args:
        ours: Scores, one for each seed.
        theirs: Scores of the same seeds.
    """
    differences = np.subtract(ours, theirs)
    mean = float(differences.mean())
    if len(differences) < 2:
        return Difference(mean, math.nan, math.nan, math.nan)
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    # Equal differences (models that predict one class, for example) do not estimate the variance
    # over seeds.
    if error < 1e-9:
        return Difference(mean, math.nan, math.nan, math.nan)
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, len(differences) - 1))
    return Difference(mean, mean - half, mean + half, p)


def permutation(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Two-sided p-value of the exact sign-flip permutation test of paired differences.

    With n seeds it is at least 2 / 2^n: 0.0625 with five seeds.

    Args:
        ours: Scores, one for each seed, at most 20.
        theirs: Scores of the same seeds.
    """
    differences = np.subtract(ours, theirs)
    signs = np.array(list(product((1, -1), repeat=len(differences))))
    sums = np.abs(signs @ differences)
    return float((sums >= abs(differences.sum()) - 1e-12).mean())


def resampled_metric(
    metric: Callable[[Indices], float], examples: int, resamples: int, seed: int
) -> Floats:
    """A metric on the test set, followed by its values on bootstrap resamples of it.

    Args:
        metric: The metric of some examples, given by their indices.
        examples: Number of test examples.
        resamples: Number of resamples, drawn with replacement.
        seed: Seed of the resamples: the same for every model.

    Returns:
        The values, shape (1 + resamples,).
    """
    generator = np.random.default_rng(seed)
    draws = (generator.integers(examples, size=examples) for _ in range(resamples))
    return np.array([metric(np.arange(examples)), *(metric(draw) for draw in draws)])


def paired_bootstrap(ours: Floats, theirs: Floats) -> Difference:
    """The difference between two models on the same test examples, resampled with replacement.

    Source: Efron and Tibshirani 1993, chapters 13 and 16; Berg-Kirkpatrick et al. 2012 for its use
    on test sets.

    Args:
        ours: Our model's values of `resampled_metric`, shape (1 + resamples,).
        theirs: The other model's values on the same resamples.
    """
    observed, resampled = float(ours[0] - theirs[0]), ours[1:] - theirs[1:]
    low, high = np.quantile(resampled, [0.025, 0.975])
    # How often a difference as large occurs around a mean of zero.
    larger = int((np.abs(resampled - resampled.mean()) >= abs(observed) - 1e-12).sum())
    p = (1 + larger) / (1 + len(resampled))
    return Difference(observed, float(low), float(high), float(p))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for multiple tests (Holm 1979).

    NaN stays NaN and does not count as a test.

    Args:
        p_values: P-values of one family of tests.
    """
    known = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    corrected, highest = list(p_values), 0.0
    for rank, index in enumerate(sorted(known, key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(known) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def relative_change(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The mean over tasks of the relative change from the single-task score, in per cent (delta m).

    NaN if a single-task score is 0 or negative: the relative change is undefined.

    Source: Maninis et al. 2019, equation 4 (higher is better for all of our metrics).

    Args:
        ours: A score for each task.
        theirs: The single-task scores.
    """
    if min(theirs) <= 0:
        return math.nan
    return 100 * float(np.mean(np.subtract(ours, theirs) / np.asarray(theirs)))
