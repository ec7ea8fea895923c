"""What every order promises, whatever the tasks' sizes."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import DataObject, data, integers, lists, sampled_from

from mtl.data.loader import shard
from mtl.data.order import Draw
from tests.contracts.orders import EACH_EXAMPLE_ONCE, ORDERS, counted

SIZES = lists(integers(1, 90), min_size=1, max_size=6)
EVENLY = ["round_robin", "mixed", "uniform", "annealed", "intervals"]


def plain(draws: list[Draw]) -> list[tuple[int, list[int]]]:
    return [(draw.task, draw.examples.tolist()) for draw in draws]


@settings(deadline=None)
@given(
    name=sampled_from(sorted(ORDERS)),
    sizes=SIZES,
    batch_size=integers(1, 9),
    seed=integers(0, 99),
    chosen=data(),
)
def test_a_step_does_not_depend_on_earlier_calls(
    name: str, sizes: list[int], batch_size: int, seed: int, chosen: DataObject
) -> None:
    through, jumped = (ORDERS[name](sizes, batch_size, seed) for _ in range(2))
    steps = [(epoch, step) for epoch in range(2) for step in range(through.steps)]
    expected = {(epoch, step): plain(through(epoch, step)) for epoch, step in steps}
    for epoch, step in chosen.draw(lists(sampled_from(steps), max_size=20)):
        assert plain(jumped(epoch, step)) == expected[epoch, step]


@settings(deadline=None)
@given(name=sampled_from(sorted(ORDERS)), sizes=SIZES, batch_size=integers(1, 9))
def test_draws_hold_each_task_once_in_order_with_examples_that_exist(
    name: str, sizes: list[int], batch_size: int
) -> None:
    order = ORDERS[name](sizes, batch_size)
    for step in range(order.steps):
        draws = order(1, step)
        tasks = [draw.task for draw in draws]
        assert tasks == sorted(set(tasks))
        for draw in draws:
            assert 0 < len(draw.examples) <= batch_size
            assert draw.examples.min() >= 0
            assert draw.examples.max() < sizes[draw.task]
            assert name == "random_tasks" or len(set(draw.examples.tolist())) == len(draw.examples)


@settings(deadline=None)
@given(
    name=sampled_from(sorted(ORDERS)), sizes=SIZES, batch_size=integers(1, 9), world=integers(1, 9)
)
def test_processes_share_each_draw_evenly_without_overlap(
    name: str, sizes: list[int], batch_size: int, world: int
) -> None:
    order = ORDERS[name](sizes, batch_size)
    for step in range(order.steps):
        draws = order(0, step)
        shares = [shard(draws, rank, world) for rank in range(world)]
        for index, draw in enumerate(draws):
            held = [example for share in shares for example in share[index].tolist()]
            assert sorted(held) == sorted(draw.examples.tolist())
        counts = [sum(map(len, share)) for share in shares]
        assert max(counts) - min(counts) <= 1


@settings(deadline=None)
@given(
    name=sampled_from(EACH_EXAMPLE_ONCE),
    sizes=SIZES,
    batch_size=integers(1, 9),
    epoch=integers(0, 2),
)
def test_an_epoch_holds_each_example_once(
    name: str, sizes: list[int], batch_size: int, epoch: int
) -> None:
    for counts in counted(ORDERS[name](sizes, batch_size), [epoch], sizes):
        assert (counts == 1).all()


@settings(deadline=None)
@given(name=sampled_from(EVENLY), sizes=SIZES, batch_size=integers(1, 9))
def test_examples_of_a_task_are_drawn_equally_often_give_or_take_one(
    name: str, sizes: list[int], batch_size: int
) -> None:
    for counts in counted(ORDERS[name](sizes, batch_size), range(3), sizes):
        assert np.ptp(counts) <= 1


@settings(deadline=None)
@given(name=sampled_from(sorted(ORDERS)), sizes=SIZES, batch_size=integers(1, 9))
def test_grouping_by_length_changes_neither_tasks_nor_counts(
    name: str, sizes: list[int], batch_size: int
) -> None:
    grouped, shuffled = (
        ORDERS[name](sizes, batch_size, lengths=lengths) for lengths in (True, False)
    )
    for step in range(grouped.steps):
        one, other = (
            [(draw.task, len(draw.examples)) for draw in order(0, step)]
            for order in (grouped, shuffled)
        )
        assert one == other


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_epochs_and_seeds_differ(name: str) -> None:
    orders = [ORDERS[name]([300, 40, 70], 4, seed) for seed in (0, 1)]
    epochs = [
        [plain(order(epoch, step)) for step in range(order.steps)]
        for order in orders
        for epoch in (0, 1)
    ]
    for one in range(len(epochs)):
        for other in range(one):
            assert epochs[one] != epochs[other]


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_a_thousand_tasks_can_be_drawn_from(name: str) -> None:
    order = ORDERS[name]([1 + task % 5 for task in range(1000)], 4)
    tasks = {draw.task for step in range(order.steps) for draw in order(0, step)}
    assert tasks <= set(range(1000))
    # The other two have an epoch of few steps.
    assert name in ("random_tasks", "intervals") or len(tasks) > 400


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_a_hundred_million_examples_can_be_drawn_from(name: str) -> None:
    order = ORDERS[name]([100_000_000, 3_000_000, 50], 32, lengths=False)
    for step in (0, order.steps // 2, order.steps - 1):
        assert order(3, step)


@pytest.mark.parametrize("name", ["round_robin", "concatenated", "proportional_to_size", "mixed"])
def test_memory_does_not_grow_with_the_number_of_steps(name: str) -> None:
    order = ORDERS[name]([5000, 900, 77], 8)
    sizes = []
    for epoch in range(4):
        for step in range(order.steps):
            order(epoch, step)
        sizes.append(len(pickle.dumps(order)))
    assert max(sizes) < 1.1 * sizes[0]
