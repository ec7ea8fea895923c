from collections import Counter
from itertools import pairwise
from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers, lists, one_of
from scipy import stats

from mtl.data.length_sorted import LengthSortedOrder
from mtl.data.mixture import Mixture
from mtl.data.order import MAX_WINDOW, MIN_WINDOWS, Stream, group_by_length
from mtl.data.permutation import Permutation


@given(size=integers(1, 3000), key=integers(0, 2**60))
def test_a_permutation_holds_every_item_once(size: int, key: int) -> None:
    assert sorted(Permutation(size, [key])(np.arange(size)).tolist()) == list(range(size))


def test_permutations_with_different_keys_are_evenly_distributed() -> None:
    firsts = [int(Permutation(10, [key])([0])[0]) for key in range(5000)]
    counts = np.bincount(firsts, minlength=10)
    assert (
        (counts - 500) ** 2 / 500
    ).sum() < 33.7  # chi-squared with 9 degrees of freedom, p = 0.0001


def test_a_permutation_of_a_hundred_million_items_needs_no_memory() -> None:
    items = Permutation(100_000_000, [1])(np.arange(99_999_000, 100_000_000))
    assert len(np.unique(items)) == 1000
    assert items.max() < 100_000_000


@given(size=integers(1, 200), batch_size=integers(1, 40), passes=integers(1, 3))
def test_every_pass_of_a_stream_gives_each_example_once_in_batches_of_nearly_equal_size(
    size: int, batch_size: int, passes: int
) -> None:
    stream = Stream(0, size, batch_size, seed=1)
    for done in range(passes):
        draws = [stream(done * stream.batches + batch).examples for batch in range(stream.batches)]
        assert sorted(np.concatenate(draws).tolist()) == list(range(size))
        lengths = [len(draw) for draw in draws]
        assert max(lengths) <= batch_size
        assert max(lengths) - min(lengths) <= 1


def test_passes_are_shuffled_differently() -> None:
    stream = Stream(0, 100, 100, seed=1)
    assert stream(0).examples.tolist() != stream(1).examples.tolist()


@given(lengths=lists(integers(1, 50), min_size=1, max_size=60), batch_size=integers(1, 9))
def test_evaluation_gives_each_example_once_longest_first(
    lengths: list[int], batch_size: int
) -> None:
    order = LengthSortedOrder(2, np.array(lengths), batch_size)
    draws = [draw for step in range(order.steps) for draw in order(0, step)]
    examples = [example for draw in draws for example in draw.examples.tolist()]
    assert sorted(examples) == list(range(len(lengths)))
    assert [lengths[example] for example in examples] == sorted(lengths, reverse=True)
    assert {draw.task for draw in draws} == {2}


@given(
    lengths=lists(integers(1, 50), min_size=1, max_size=60),
    batch_size=integers(1, 9),
    limit=one_of(integers(0, 70), floats(0.0, 1.0)),
)
def test_a_limited_evaluation_also_gives_each_example_once(
    lengths: list[int], batch_size: int, limit: float
) -> None:
    order = LengthSortedOrder(0, np.array(lengths), batch_size, limit)
    examples = [index for step in range(order.steps) for index in order(0, step)[0].examples]
    assert sorted(examples) == list(range(len(lengths)))


@pytest.mark.parametrize("limit", [1, 3, 0.1])
def test_the_examples_of_a_limited_evaluation_do_not_depend_on_their_lengths(limit: float) -> None:
    lengths = np.random.default_rng(1).permutation(1000) + 1
    order = LengthSortedOrder(0, lengths, 50, limit)
    used = limit if isinstance(limit, int) else int(order.steps * limit)
    sample = np.concatenate([order(0, step)[0].examples for step in range(used)])
    # Uniform, not the longest: Kolmogorov-Smirnov.
    assert stats.kstest(lengths[sample] / 1000, "uniform").pvalue > 0.01
    assert (np.diff(lengths[sample]) < 0).all()  # the longest of them first


@pytest.mark.parametrize("items", [2, 4, 5])
def test_all_orders_of_a_few_items_are_equally_likely(items: int) -> None:
    result = Counter(
        tuple(Permutation(items, [key])(np.arange(items)).tolist()) for key in range(6000)
    )
    assert len(result) == factorial(items)
    assert stats.chisquare(list(result.values())).pvalue > 1e-4


def test_neighbours_are_separated() -> None:
    # The number of neighbouring pairs that stay neighbours is Poisson-distributed with mean 1.
    pairs = [np.sum(np.diff(Permutation(5000, [key])(np.arange(5000))) == 1) for key in range(300)]
    assert (
        stats.chisquare(
            [pairs.count(n) for n in range(4)] + [sum(n > 3 for n in pairs)],
            [300 * stats.poisson.pmf(n, 1) for n in range(4)] + [300 * stats.poisson.sf(3, 1)],
        ).pvalue
        > 1e-4
    )


@given(
    lengths=lists(integers(1, 99), min_size=1, max_size=80),
    count=integers(1, 8),
    key=integers(0, 99),
)
def test_grouped_steps_hold_items_of_similar_length(
    lengths: list[int], count: int, key: int
) -> None:
    steps = np.sort(np.arange(len(lengths)) % min(count, len(lengths)))
    result = np.array(lengths)[group_by_length(np.array(lengths), steps, [key])]
    assert sorted(result.tolist()) == sorted(lengths)
    spans = sorted(
        (result[steps == step].min(), result[steps == step].max()) for step in np.unique(steps)
    )
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_the_longest_items_of_all_kinds_meet_in_a_step() -> None:
    lengths, kinds, steps = (
        np.array([9, 1, 5, 90, 10, 50]),
        np.array([0, 0, 0, 1, 1, 1]),
        np.array([0, 1, 2, 0, 1, 2]),
    )
    result = group_by_length(lengths, steps, [3], kinds)
    assert (kinds[result] == kinds).all()
    assert (lengths[result[3:]] == 10 * lengths[result[:3]]).all()


def test_lengths_neither_rise_nor_fall_within_a_window() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, MIN_WINDOWS * MAX_WINDOW * 8)
    slopes = []
    for seed in range(200):
        stream = Stream(0, len(lengths), 8, seed, lengths)
        means = [lengths[stream(batch).examples].mean() for batch in range(MAX_WINDOW)]
        slopes.append(stats.spearmanr(range(MAX_WINDOW), means).statistic)
    assert abs(np.mean(slopes)) < 4 / np.sqrt(
        200 * (MAX_WINDOW - 1)
    )  # Spearman's rho of a random order has variance 1/(n-1)


@given(
    counts=lists(integers(0, 40), min_size=1, max_size=5).filter(any),
    block=integers(1, 9),
    key=integers(0, 99),
)
def test_a_mixture_holds_the_given_number_of_each_kind_and_counts_those_before_a_block(
    counts: list[int], block: int, key: int
) -> None:
    mixture = Mixture(np.array(counts), block, [key])
    seen = np.zeros(len(counts), np.int64)
    for number in range(-(-sum(counts) // block)):
        before, kinds = mixture.block(number)
        assert before.tolist() == seen.tolist()
        assert len(kinds) == block or number == sum(counts) // block
        seen += np.bincount(kinds, minlength=len(counts))
    assert seen.tolist() == counts


def test_all_orders_of_a_mixture_are_equally_likely() -> None:
    result = Counter(
        tuple(
            np.concatenate(
                [Mixture(np.array([2, 2, 1]), 2, [key]).block(number)[1] for number in range(3)]
            ).tolist()
        )
        for key in range(6000)
    )
    assert len(result) == factorial(5) // (2 * 2)
    assert stats.chisquare(list(result.values())).pvalue > 1e-4
