"""The estimate, the interval and the verdict of a comparison."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mtl.compare.decision import Decision, Verdict, decide, verdict_of
from mtl.compare.estimate import Floats, estimate
from tests.compare.scored import scored

seed_scores = st.lists(st.floats(0, 100), min_size=2, max_size=8).filter(lambda x: np.std(x) > 0.01)


def resampled(scores: list[float] | Floats, own: Floats) -> Floats:
    """Resamples that move all seeds alike: the seeds have no noise of their own on the examples."""
    return np.asarray(scores)[:, None] + own[None]


def wave(variance: float, phase: float, draws: int = 400) -> Floats:
    """Values with mean 0 and exactly this sample variance; orthogonal for phases pi / 2 apart."""
    values = np.cos(2 * np.pi * np.arange(draws) / draws + phase)
    return np.asarray(values / values.std(ddof=1) * math.sqrt(variance))


@given(ours=seed_scores, theirs=seed_scores)
def test_without_test_noise_the_interval_is_welchs(ours: list[float], theirs: list[float]) -> None:
    expected = stats.ttest_ind(ours, theirs, equal_var=False)
    interval = expected.confidence_interval(0.95)
    decision = decide(scored("a", ours), scored("b", theirs))
    assert (decision.low, decision.high) == pytest.approx((interval.low, interval.high))
    assert decision.df == pytest.approx(expected.df)
    assert estimate(scored("a", ours), scored("b", theirs)).p == pytest.approx(
        expected.pvalue, abs=1e-12
    )


@given(differences=seed_scores, seed=st.integers(0, 99))
def test_paired_rows_give_the_paired_t_interval(differences: list[float], seed: int) -> None:
    theirs = np.random.default_rng(seed).normal(50, 9, len(differences))
    ours = theirs + differences
    interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    decision = decide(scored("a", ours), scored("b", theirs), paired=True)
    assert (decision.low, decision.high) == pytest.approx((interval.low, interval.high))
    assert decision.df == pytest.approx(len(differences) - 1)


def test_the_standard_error_and_df_of_a_hand_computed_case() -> None:
    # Variances over seeds 4 and 1; W = 0.5 + 0.7.
    ours, theirs = np.array([70.0, 72.0, 74.0]), np.array([60.0, 60.0, 61.0, 62.0, 62.0])
    row = scored("a", ours, resampled(ours, wave(0.5, 0)), 101)
    baseline = scored("b", theirs, resampled(theirs, wave(0.7, np.pi / 2)), 301)
    found = estimate(row, baseline)
    variance = 4 / 3 + 1 / 5 + 1.2
    df = variance**2 / ((4 / 3) ** 2 / 2 + (1 / 5) ** 2 / 4 + 1.2**2 / 100)
    assert found.difference == pytest.approx(11)
    assert found.test_variance == pytest.approx(1.2)
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    assert found.df == pytest.approx(df)
    decision = decide(row, baseline, comparisons=4)
    half = stats.t.ppf(1 - 0.05 / 8, df) * math.sqrt(variance)
    assert (decision.low, decision.high) == pytest.approx((11 - half, 11 + half))


def test_the_seeds_own_noise_on_test_examples_is_not_counted_twice() -> None:
    # Two seeds with independent noise 2 and 4: mean 3, of their mean 6 / 4, over n - 1 = 1.
    ours, theirs = np.array([70.0, 72.0]), np.array([60.0, 61.0])
    row = scored("a", ours, ours[:, None] + np.array([wave(2, 0), wave(4, np.pi / 2)]), 500)
    baseline = scored("b", theirs, resampled(theirs, 0 * wave(1, 0)), 500)
    assert estimate(row, baseline).test_variance == pytest.approx(max(0, 6 / 4 - (3 - 6 / 4)))
    third = np.array([wave(2, 0), wave(4, np.pi / 2), wave(6, np.pi / 2)])  # shares with the second
    ours = np.array([70.0, 72.0, 71.0])
    together = (2 + (math.sqrt(4) + math.sqrt(6)) ** 2) / 9
    row = scored("a", ours, ours[:, None] + third, 500)
    expected = together - (4 - together) / 2
    assert estimate(row, baseline).test_variance == pytest.approx(expected)


def test_paired_rows_share_their_noise_on_test_examples() -> None:
    # Row and baseline move alike on every resample: the difference has no test noise at all.
    scores, noise = np.array([70.0, 75.0, 71.0]), np.array([wave(2, 0), wave(4, 1), wave(6, 2)])
    row = scored("a", scores + np.array([1, 2, 3]), scores[:, None] + noise, 500)
    baseline = scored("b", scores, scores[:, None] + noise, 500)
    found = estimate(row, baseline, paired=True)
    assert found.test_variance == pytest.approx(0, abs=1e-12)
    assert found.standard_error == pytest.approx(math.sqrt(1 / 3))


def test_a_row_without_training_needs_one_evaluation_and_adds_no_seed_noise() -> None:
    trained = np.array([50.0, 52.0, 54.0])
    row = scored("tuned", trained, resampled(trained, wave(1, 0)), 400)
    zero_shot = scored("zero-shot", [40.0], 40 + wave(1, np.pi / 2)[None], 400, trained=False)
    found = estimate(row, zero_shot)
    assert found.standard_error == pytest.approx(math.sqrt(4 / 3 + 2))
    decision = decide(row, zero_shot)
    assert decision.verdict is Verdict.BETTER
    assert decision.preliminary
    other = scored("prompt", [44.0], 44 + 0 * wave(1, 0)[None], 400, trained=False)
    both = decide(other, zero_shot)
    assert both.standard_error == pytest.approx(1)
    assert both.df == pytest.approx(399)
    assert not both.preliminary


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        ([70.0], [60.0, 61.0], "a has one seed"),
        ([70.0, 71.0], [60.0], "b has one seed"),
        ([], [60.0, 61.0], "a has no score"),
        ([50.0, 50.0], [40.0, 40.0], "do not vary"),
    ],
)
def test_rows_without_a_measure_of_noise_get_no_verdict(
    ours: list[float], theirs: list[float], reason: str
) -> None:
    decision = decide(scored("a", ours), scored("b", theirs))
    assert decision.verdict is None
    assert math.isnan(decision.low)
    assert reason in decision.sentence()


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 2.0, Verdict.BETTER),
        (-2.0, -0.1, Verdict.WORSE),
        (-0.9, 0.5, Verdict.NO_WORSE),
        (-0.9, 9.0, Verdict.NO_WORSE),
        (-1.0, 0.5, Verdict.UNDECIDED),
        (0.0, 0.5, Verdict.NO_WORSE),
        (-3.0, 0.0, Verdict.UNDECIDED),
        (-0.5, -0.1, Verdict.WORSE),
    ],
)
def test_the_verdict_follows_from_the_interval_and_the_margin(
    low: float, high: float, verdict: Verdict
) -> None:
    assert verdict_of(low, high, margin=1.0) is verdict


def sentence(
    ours: list[float], theirs: list[float], comparisons: int = 1, target: float = 2.0
) -> str:
    row, baseline = scored("joint", ours), scored("single", theirs)
    return decide(row, baseline, comparisons=comparisons, target=target).sentence()


def test_sentences_can_be_read_aloud() -> None:
    better = sentence([72.0, 74.0, 72.0, 74.0, 73.0], [61.0, 63.0, 61.0, 63.0, 62.0])
    assert better.startswith("better than single by 11.0 [9.5, 12.5] (over seeds only")
    worse = sentence([61.0, 63.0, 61.0, 63.0, 62.0], [72.0, 74.0, 72.0, 74.0, 73.0])
    assert worse.startswith("worse than single by 11.0 [9.5, 12.5] (over")
    close = sentence([70.1, 70.2, 70.3, 70.2, 70.2], [70.1, 70.2, 70.3, 70.2, 70.1])
    assert close.startswith("no worse than single within 1 point: +0.0 [-0.1, 0.1] (over")
    few = sentence([70.0, 74.0, 66.0], [69.0, 73.0, 62.0])
    assert few.startswith("undecided: +2.0 [")
    assert "more seeds would detect a difference of 2 points (preliminary (3 seeds), over" in few


def test_the_seeds_still_needed_do_not_depend_on_the_difference_observed() -> None:
    more = [
        re.search(r"about (\d+) more seeds", sentence([x + 70, x + 74, x + 66], [70.0, 74.0, 66.0]))
        for x in (0.0, 1.0)
    ]
    assert more[0] and more[1] and more[0][1] == more[1][1]


def test_a_test_set_that_is_too_small_needs_examples_not_seeds() -> None:
    scores = np.array([70.0, 71.0, 69.5, 70.5, 70.0])
    row = scored("a", scores, resampled(scores, wave(4, 0)), 60)
    baseline = scored("b", scores[::-1], resampled(scores, wave(4, np.pi / 2)), 60)
    decision = decide(row, baseline)
    assert decision.verdict is Verdict.UNDECIDED
    quantiles = stats.t.ppf(0.975, 59) + stats.t.ppf(0.8, 59)
    more = math.ceil(60 * 8 * quantiles**2 / 4) - 60
    assert f"no number of seeds would detect a difference of 2 points: about {more:,}" in (
        decision.sentence()
    )


def test_a_shared_first_stage_is_stated() -> None:
    row = scored("fine-tuned", [70.0, 71.0, 72.0], first_stage=True)
    assert "given this one first stage" in decide(row, scored("b", [50.0, 51.0])).sentence()


@given(
    ours=seed_scores,
    theirs=seed_scores,
    comparisons=st.integers(1, 9),
    margin=st.floats(0.1, 5),
    shift=st.floats(-50, 50),
    variance=st.floats(0, 4),
)
def test_invariants(
    ours: list[float],
    theirs: list[float],
    comparisons: int,
    margin: float,
    shift: float,
    variance: float,
) -> None:
    def compared(a: Floats, b: Floats, count: int = comparisons) -> Decision:
        row = scored("a", a, resampled(a, wave(variance, 0)), 200)
        baseline = scored("b", b, resampled(b, 0 * wave(1, 0)), 200)
        return decide(row, baseline, comparisons=count, margin=margin)

    decision = compared(np.array(ours), np.array(theirs))
    assert decision.low <= decision.difference <= decision.high
    assert decision.verdict is verdict_of(decision.low, decision.high, margin)
    assert bool(decision.needed) == (decision.verdict is Verdict.UNDECIDED)
    # A constant that both rows gain changes nothing.
    moved = compared(np.array(ours) + shift, np.array(theirs) + shift)
    assert (moved.low, moved.high) == pytest.approx((decision.low, decision.high), abs=1e-6)
    # More comparisons with the baseline never narrow the interval.
    more = compared(np.array(ours), np.array(theirs), comparisons + 1)
    assert more.high - more.low >= decision.high - decision.low - 1e-9
    # The reverse comparison is the mirror image.
    found = estimate(scored("a", ours), scored("b", theirs)).interval(0.05)
    back = estimate(scored("b", theirs), scored("a", ours)).interval(0.05)
    assert back == pytest.approx((-found[1], -found[0]), abs=1e-9)
