import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.statistics import (
    drawn_again,
    holm,
    paired_bootstrap,
    paired_t,
    permutation,
    relative_change,
)

scores = st.lists(st.floats(0, 100), min_size=3, max_size=8)


@given(ours=scores, seed=st.integers(0, 99))
def test_the_paired_t_test_is_scipys(ours: list[float], seed: int) -> None:
    theirs = (np.array(ours) + np.random.default_rng(seed).normal(size=len(ours))).tolist()
    found, expected = paired_t(ours, theirs), stats.ttest_rel(ours, theirs)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-9)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


@given(ours=scores, seed=st.integers(0, 99))
def test_the_permutation_test_is_scipys(ours: list[float], seed: int) -> None:
    theirs = (np.array(ours) + np.random.default_rng(seed).normal(size=len(ours))).tolist()
    expected = stats.permutation_test(
        (np.subtract(ours, theirs),),
        lambda x, axis: x.mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert permutation(ours, theirs) == pytest.approx(expected.pvalue, abs=1e-9)


def test_differences_that_do_not_vary_say_nothing_of_noise() -> None:
    assert math.isnan(paired_t([51.6, 61.6], [46.6, 56.6]).p)


def test_one_seed_says_nothing_of_noise() -> None:
    found = paired_t([71.0], [70.0])
    assert found.mean == 1 and math.isnan(found.p) and math.isnan(found.low)
    assert permutation([71.0], [70.0]) == 1


def test_the_bootstrap_interval_of_a_mean_is_the_normal_one() -> None:
    chance = np.random.default_rng(1)
    theirs = chance.random(2000) < 0.70
    ours = theirs | (chance.random(2000) < 0.15)
    difference = ours.astype(float) - theirs
    ours_drawn = drawn_again(lambda at: float(ours[at].mean()), 2000, 1000, seed=0)
    theirs_drawn = drawn_again(lambda at: float(theirs[at].mean()), 2000, 1000, seed=0)
    found = paired_bootstrap(ours_drawn, theirs_drawn)
    half = 1.96 * difference.std() / math.sqrt(2000)
    assert found.mean == pytest.approx(difference.mean())
    assert (found.low, found.high) == pytest.approx(
        (found.mean - half, found.mean + half), abs=0.002
    )
    assert found.p < 0.01
    assert paired_bootstrap(ours_drawn, ours_drawn).p == 1


def test_holm_is_the_textbooks() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, math.nan, 0.5])[0] == pytest.approx(0.04)
    assert math.isnan(holm([math.nan])[0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(after >= before for before, after in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert all(np.diff(np.array(corrected)[order]) >= 0)


def test_relative_change_is_the_mean_of_the_tasks() -> None:
    assert relative_change([55, 90], [50, 100]) == pytest.approx(0)
    assert math.isnan(relative_change([5, 5], [0, 5]))
