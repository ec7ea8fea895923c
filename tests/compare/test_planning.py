"""What seeds and test examples can tell, looks, and statements about several comparisons."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mtl.compare.decision import Verdict
from mtl.compare.estimate import Estimate
from mtl.compare.families import holm, no_task_loses, possibly_best
from mtl.compare.looks import decide_at_looks, next_look, spending_levels
from mtl.compare.planning import (
    Noise,
    detectable_difference,
    examples_needed,
    half_width,
    seeds_needed,
)
from tests.compare.scored import scored

noises = st.builds(Noise, st.floats(0.1, 8), st.floats(0, 4), st.integers(30, 5000))


@pytest.mark.parametrize(
    ("deviation", "test_deviation", "expected"),
    [
        (1, 0.5, [4.1, 3.0, 2.3, 2.0, 1.8]),
        (2, 0.5, [8.6, 5.4, 3.7, 2.8, 2.2]),
        (2, 1.0, [8.2, 5.9, 4.7, 4.1, 3.7]),
        (4, 0.5, [17.8, 10.8, 6.9, 4.8, 3.3]),
    ],
)
def test_the_planning_table_of_the_specification(
    deviation: float, test_deviation: float, expected: list[float]
) -> None:
    noise = Noise(deviation, test_deviation**2)
    found = [detectable_difference(noise, seeds, 0.05 / 5) for seeds in (3, 5, 10, 20, 50)]
    assert found == pytest.approx(expected, abs=0.051)


def test_the_half_width_without_test_noise_is_that_of_two_equal_samples() -> None:
    expected = stats.t.ppf(0.975, 8) * math.sqrt(2 * 9 / 5)
    assert half_width(Noise(3.0), 5) == pytest.approx(expected)
    # Paired: the variance of the differences is twice that of a row, with n - 1 degrees of freedom.
    paired = stats.t.ppf(0.975, 4) * math.sqrt(2 * 9 / 5)
    assert half_width(Noise(3.0, paired=True), 5) == pytest.approx(paired)


@given(noise=noises, target=st.floats(0.5, 10), rows=st.integers(1, 9))
def test_the_seeds_needed_are_the_fewest_that_detect_the_target(
    noise: Noise, target: float, rows: int
) -> None:
    level = 0.05 / rows
    seeds = seeds_needed(noise, target, level)
    if seeds is None:
        assert detectable_difference(noise, 1000, level) > target
    else:
        assert detectable_difference(noise, seeds, level) <= target
        assert seeds == 2 or detectable_difference(noise, seeds - 1, level) > target


@given(noise=noises, target=st.floats(0.5, 10))
def test_with_the_examples_needed_the_test_set_alone_just_allows_the_target(
    noise: Noise, target: float
) -> None:
    examples = examples_needed(noise, target)
    left = noise.test_variance * noise.test_examples / max(examples, 1)
    quantiles = stats.t.ppf(0.975, noise.test_examples - 1)
    quantiles += stats.t.ppf(0.8, noise.test_examples - 1)
    assert quantiles * math.sqrt(left) <= target * (1 + 1e-9)


def test_spending_levels_are_the_published_ones() -> None:
    # The published figures come from a simulation of a million paths.
    assert spending_levels((5, 10, 20)) == pytest.approx((0.00309, 0.01046, 0.04314), rel=0.015)
    assert spending_levels((20,)) == pytest.approx((0.05,))
    assert spending_levels((5, 10, 20))[0] == pytest.approx(0.05 / 16)


@settings(max_examples=20)
@given(
    looks=st.lists(st.integers(2, 50), min_size=1, max_size=4, unique=True).map(sorted),
    rows=st.integers(1, 9),
)
def test_the_levels_of_the_looks_together_spend_the_level(looks: list[int], rows: int) -> None:
    alpha = 0.05 / rows
    levels = spending_levels(tuple(looks), alpha)
    assert max(levels) <= alpha + 1e-12 <= sum(levels) + 1e-9
    paths = np.random.default_rng(0).standard_normal((50_000, len(looks)))
    times = np.array(looks) / looks[-1]
    paths = np.cumsum(paths * np.sqrt(np.diff(times, prepend=0)), 1) / np.sqrt(times)
    crossed = (np.abs(paths) > stats.norm.isf(np.array(levels) / 2)).any(1).mean()
    assert crossed == pytest.approx(alpha, abs=5 * math.sqrt(alpha / 50_000))


def alternating(mean: float, deviation: float, seeds: int) -> list[float]:
    return [mean + deviation * (-1) ** seed for seed in range(seeds)]


def test_a_row_decided_at_a_look_keeps_its_verdict() -> None:
    baseline = scored("b", alternating(60, 0.5, 20))
    # Better at 5 seeds; the later seeds alone would say the opposite.
    row = scored("a", alternating(70, 0.5, 5) + alternating(40, 0.5, 15))
    decision = decide_at_looks(row, baseline, (5, 10, 20))
    assert decision.verdict is Verdict.BETTER
    assert (decision.seeds, decision.baseline_seeds) == (5, 5)
    assert decision.level == pytest.approx(0.05 / 16)


def test_no_worse_waits_for_the_last_look() -> None:
    looks = (5, 10)
    for seeds, verdict in ((5, Verdict.UNDECIDED), (9, Verdict.UNDECIDED), (10, Verdict.NO_WORSE)):
        row = scored("a", alternating(60.01, 0.2, seeds))
        decision = decide_at_looks(row, scored("b", alternating(60, 0.2, 10)), looks)
        assert decision.verdict is verdict
        assert ("the next look is at 10 seeds" in decision.sentence()) == (seeds < 10)


def test_before_the_first_look_there_is_no_verdict() -> None:
    row, baseline = scored("a", [90.0, 91.0]), scored("b", [10.0, 11.0])
    decision = decide_at_looks(row, baseline, (5, 10))
    assert decision.verdict is None
    assert decision.sentence() == "no verdict: the first look is at 5 seeds"
    assert next_look((5, 10), 2) == 5
    assert next_look((5, 10), 10) is None


def test_holm_equals_the_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, math.nan, 0.5])[0] == pytest.approx(0.04)
    assert math.isnan(holm([math.nan])[0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_never_lowers_a_p_value_and_keeps_the_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(after >= before for before, after in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert all(np.diff(np.array(corrected)[order]) >= 0)


def test_possibly_best_are_the_rows_not_separated_from_the_highest() -> None:
    rows = [
        scored("high", [80.0, 81.0, 79.0, 80.0, 80.5]),
        scored("close", [79.5, 80.5, 79.0, 80.0, 79.8]),
        scored("low", [60.0, 61.0, 62.0, 61.5, 60.5]),
        scored("one seed", [99.0]),
    ]
    assert possibly_best(rows) == ["high", "close"]
    assert possibly_best(rows[3:]) == []


def test_the_best_row_is_possibly_best_in_95_percent_of_tables() -> None:
    generator, tables, missed = np.random.default_rng(0), 400, 0
    for _ in range(tables):
        scores = generator.normal(size=(4, 5)) * np.array([1, 1, 2, 3])[:, None]
        rows = [scored(str(index), row) for index, row in enumerate(scores)]
        missed += "3" not in possibly_best(rows)
    assert missed <= stats.binom.ppf(0.999, tables, 0.05)


def test_no_task_loses_needs_every_lower_bound_above_the_margin() -> None:
    def task(difference: float) -> Estimate:
        return Estimate(difference, ((0.01, 4), (0.01, 4)), 0.0, 100)

    half = stats.t.ppf(0.975, 8) * math.sqrt(0.02)
    assert no_task_loses([task(0), task(half - 0.99)], margin=1)
    assert not no_task_loses([task(5), task(half - 1.01)], margin=1)
