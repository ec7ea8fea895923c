"""Whether a difference is more than noise: pure functions on scores of seeds and of rows."""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.floating]


class Difference(NamedTuple):
    """A paired difference.

    Attributes:
        mean: The mean of the differences.
        low: Lower end of its 95 % interval; NaN where there is one pair, or all differences are equal.
        high: Upper end.
        p: Two-sided p-value of no difference; NaN in the same cases.
    """

    mean: float
    low: float
    high: float
    p: float


def paired_t(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Student's t of the differences, pair by pair.

    Args:
        ours: Scores, one for each seed.
        theirs: Scores of the same seeds.
    """
    differences = np.subtract(ours, theirs)
    mean = float(differences.mean())
    if len(differences) < 2:
        return Difference(mean, math.nan, math.nan, math.nan)
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    if (
        error < 1e-9
    ):  # a spread of nothing, as of models that all answer the same, says nothing of another seed's
        return Difference(mean, math.nan, math.nan, math.nan)
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, len(differences) - 1))
    return Difference(mean, mean - half, mean + half, p)


def permutation(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Two-sided p-value when the sign of each pair's difference is by chance: exact, over all signs.

    With n seeds it cannot be less than 2 / 2^n: five seeds can at best say 0.0625.

    Args:
        ours: Scores, one for each seed, at most 20.
        theirs: Scores of the same seeds.
    """
    differences = np.subtract(ours, theirs)
    signs = np.array(list(product((1, -1), repeat=len(differences))))
    sums = np.abs(signs @ differences)
    return float((sums >= abs(differences.sum()) - 1e-12).mean())


def drawn_again(
    metric: Callable[[npt.NDArray[np.intp]], float], rows: int, draws: int, seed: int
) -> Floats:
    """A metric of all test rows, and then of test sets drawn from them with replacement, shape (1 + draws,).

    Args:
        metric: The metric of some rows, given by their places.
        rows: Number of test rows.
        draws: Number of test sets drawn.
        seed: Decides the draws: the same for every model.
    """
    chance = np.random.default_rng(seed)
    return np.array(
        [metric(np.arange(rows)), *(metric(chance.integers(rows, size=rows)) for _ in range(draws))]
    )


def paired_bootstrap(ours: Floats, theirs: Floats) -> Difference:
    """The difference of a metric of two models on the same test rows, which are drawn again with replacement.

    Source: Efron and Tibshirani 1993, chapters 13 and 16; Berg-Kirkpatrick et al. 2012 for its use on test sets.

    Args:
        ours: Our model's metric, as `drawn_again` gives it, shape (1 + draws,).
        theirs: The other model's, of the same draws.
    """
    whole, drawn = float(ours[0] - theirs[0]), ours[1:] - theirs[1:]
    low, high = np.quantile(drawn, [0.025, 0.975])
    # How often a difference as large arises around no difference.
    p = (1 + int((np.abs(drawn - drawn.mean()) >= abs(whole) - 1e-12).sum())) / (1 + len(drawn))
    return Difference(whole, float(low), float(high), float(p))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for the number of tests (Holm 1979); NaN stays NaN and counts for no test.

    Args:
        p_values: P-values of one family of tests.
    """
    known = [place for place, p in enumerate(p_values) if not math.isnan(p)]
    corrected, highest = list(p_values), 0.0
    for rank, place in enumerate(sorted(known, key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(known) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def relative_change(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The mean over tasks of the change against the single-task score, in per cent of it (delta m).

    NaN where a single-task score is 0 or less, of which no share can be told.

    Source: Maninis et al. 2019, equation 4 (higher is better for all of our metrics).

    Args:
        ours: A score for each task.
        theirs: The single-task scores.
    """
    if min(theirs) <= 0:
        return math.nan
    return 100 * float(np.mean(np.subtract(ours, theirs) / np.asarray(theirs)))
