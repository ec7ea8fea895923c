import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mtl.compare.statistics import (
    holm,
    paired_bootstrap,
    paired_t,
    permutation,
    relative_change,
    resampled_metric,
)

scores = st.lists(st.floats(0, 100), min_size=3, max_size=8)


@given(ours=scores, seed=st.integers(0, 99))
def test_paired_t_equals_scipy(ours: list[float], seed: int) -> None:
    theirs = (np.array(ours) + np.random.default_rng(seed).normal(size=len(ours))).tolist()
    difference, expected = paired_t(ours, theirs), stats.ttest_rel(ours, theirs)
    assert difference.p == pytest.approx(expected.pvalue, abs=1e-9)
    interval = expected.confidence_interval()
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))


@given(ours=scores, seed=st.integers(0, 99))
def test_permutation_equals_scipy(ours: list[float], seed: int) -> None:
    theirs = (np.array(ours) + np.random.default_rng(seed).normal(size=len(ours))).tolist()
    expected = stats.permutation_test(
        (np.subtract(ours, theirs),),
        lambda x, axis: x.mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert permutation(ours, theirs) == pytest.approx(expected.pvalue, abs=1e-9)


def test_equal_differences_have_no_p_value() -> None:
    assert math.isnan(paired_t([51.6, 61.6], [46.6, 56.6]).p)


def test_one_seed_has_no_p_value() -> None:
    difference = paired_t([71.0], [70.0])
    assert difference.mean == 1 and math.isnan(difference.p) and math.isnan(difference.low)
    assert permutation([71.0], [70.0]) == 1


def test_the_bootstrap_interval_of_a_mean_is_close_to_the_normal_interval() -> None:
    generator = np.random.default_rng(1)
    theirs = generator.random(2000) < 0.70
    ours = theirs | (generator.random(2000) < 0.15)
    differences = ours.astype(float) - theirs
    ours_resampled = resampled_metric(
        lambda indices: float(ours[indices].mean()), 2000, 1000, seed=0
    )
    theirs_resampled = resampled_metric(
        lambda indices: float(theirs[indices].mean()), 2000, 1000, seed=0
    )
    difference = paired_bootstrap(ours_resampled, theirs_resampled)
    half = 1.96 * differences.std() / math.sqrt(2000)
    assert difference.mean == pytest.approx(differences.mean())
    assert (difference.low, difference.high) == pytest.approx(
        (difference.mean - half, difference.mean + half), abs=0.002
    )
    assert difference.p < 0.01
    assert paired_bootstrap(ours_resampled, ours_resampled).p == 1


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


def test_relative_change_is_the_mean_over_tasks() -> None:
    assert relative_change([55, 90], [50, 100]) == pytest.approx(0)
    assert math.isnan(relative_change([5, 5], [0, 5]))
