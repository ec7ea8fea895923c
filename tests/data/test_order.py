import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, lists

from mtl.data.lengths import LengthSorted
from mtl.data.order import Permutation, Stream
from mtl.data.round_robin import Turns

SIZES = lists(integers(1, 60), min_size=1, max_size=6)


@given(size=integers(1, 3000), key=integers(0, 2**60))
def test_a_permutation_gives_everything_once(size: int, key: int) -> None:
    assert sorted(Permutation(size, [key])(np.arange(size)).tolist()) == list(range(size))


def test_permutations_of_other_keys_differ_and_spread_evenly() -> None:
    firsts = [int(Permutation(10, [key])([0])[0]) for key in range(5000)]
    counts = np.bincount(firsts, minlength=10)
    assert ((counts - 500) ** 2 / 500).sum() < 33.7  # chi-squared with 9 degrees of freedom, p = 0.0001


def test_a_permutation_of_a_hundred_million_places_needs_no_memory() -> None:
    rows = Permutation(100_000_000, [1])(np.arange(99_999_000, 100_000_000))
    assert len(np.unique(rows)) == 1000
    assert rows.max() < 100_000_000


@given(size=integers(1, 200), batch_size=integers(1, 40), passes=integers(1, 3))
def test_every_pass_of_a_stream_gives_each_row_once_in_batches_of_nearly_equal_size(
    size: int, batch_size: int, passes: int
) -> None:
    stream = Stream(0, size, batch_size, seed=1)
    for done in range(passes):
        draws = [stream(done * stream.batches + batch).rows for batch in range(stream.batches)]
        assert sorted(np.concatenate(draws).tolist()) == list(range(size))
        lengths = [len(draw) for draw in draws]
        assert max(lengths) <= batch_size
        assert max(lengths) - min(lengths) <= 1


def test_passes_are_shuffled_anew() -> None:
    stream = Stream(0, 100, 100, seed=1)
    assert stream(0).rows.tolist() != stream(1).rows.tolist()


@given(sizes=SIZES, batch_size=integers(1, 9), epoch=integers(0, 3))
def test_after_k_rounds_every_task_has_given_k_batches(sizes: list[int], batch_size: int, epoch: int) -> None:
    order = in_turn(sizes, batch_size)
    given_by = [order(epoch, step)[0].task for step in range(order.steps)]
    assert given_by == list(range(len(sizes))) * (order.steps // len(sizes))


@settings(deadline=None)
@given(sizes=SIZES, batch_size=integers(1, 9), epoch=integers(0, 3))
def test_an_epoch_gives_each_row_of_the_largest_task_once(sizes: list[int], batch_size: int, epoch: int) -> None:
    order = in_turn(sizes, batch_size)
    largest = max(range(len(sizes)), key=lambda task: -(-sizes[task] // batch_size))
    draws = [draw for step in range(order.steps) for draw in order(epoch, step)]
    rows = [row for draw in draws if draw.task == largest for row in draw.rows.tolist()]
    assert sorted(rows) == list(range(sizes[largest]))


@settings(deadline=None)
@given(sizes=SIZES, batch_size=integers(1, 9))
def test_no_row_of_a_task_is_ahead_of_another_by_more_than_one(sizes: list[int], batch_size: int) -> None:
    order = in_turn(sizes, batch_size)
    counts = [np.zeros(size, int) for size in sizes]
    for epoch in range(3):
        for step in range(order.steps):
            for draw in order(epoch, step):
                counts[draw.task][draw.rows] += 1
                assert np.ptp(counts[draw.task]) <= 1


@given(lengths=lists(integers(1, 50), min_size=1, max_size=60), batch_size=integers(1, 9))
def test_evaluation_gives_each_row_once_longest_first(lengths: list[int], batch_size: int) -> None:
    order = LengthSorted(2, np.array(lengths), batch_size)
    draws = [draw for step in range(order.steps) for draw in order(0, step)]
    rows = [row for draw in draws for row in draw.rows.tolist()]
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[row] for row in rows] == sorted(lengths, reverse=True)
    assert {draw.task for draw in draws} == {2}


@pytest.mark.parametrize("seed", [0, 1])
def test_an_order_is_a_function(seed: int) -> None:
    first, second = in_turn([7, 90], 8, seed), in_turn([7, 90], 8, seed)
    for epoch, step in ((0, 0), (3, 5), (0, 0), (1, 7)):
        assert first(epoch, step)[0].rows.tolist() == second(epoch, step)[0].rows.tolist()
