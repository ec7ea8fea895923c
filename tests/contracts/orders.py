"""Every order of a training epoch, and what all of them promise."""

from collections.abc import Callable, Sequence

import numpy as np

from mtl.data.leave_one_out import RandomTasksOrder
from mtl.data.order import Ints, Order, Stream
from mtl.data.proportional import WeightedOrder
from mtl.data.round_robin import RoundRobinOrder
from mtl.data.sequential import ConcatOrder, TaskByTaskOrder


def streams(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> list[Stream]:
    chance = np.random.default_rng(5)
    return [
        Stream(task, size, batch_size, seed, chance.integers(1, 50, size) if lengths else None)
        for task, size in enumerate(sizes)
    ]


def whole(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> WeightedOrder:
    """Proportional sampling with alpha 1."""
    made = streams(sizes, batch_size, seed, lengths)
    batches = [stream.batches for stream in made]
    return WeightedOrder(made, batches, [1.0], sum(batches), seed)


def uniform(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> WeightedOrder:
    made = streams(sizes, batch_size, seed, lengths)
    return WeightedOrder(
        made, [1] * len(sizes), [0.0], len(sizes) * max(stream.batches for stream in made), seed
    )


def annealed(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> WeightedOrder:
    return WeightedOrder(
        streams(sizes, batch_size, seed, lengths), sizes, [1.0, 0.6, 0.2], 3 * len(sizes), seed
    )


def turns(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> RoundRobinOrder:
    made = streams(sizes, batch_size, seed, lengths)
    return RoundRobinOrder(made, max(stream.batches for stream in made))


def mixed(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> RoundRobinOrder:
    made = streams(sizes, batch_size, seed, lengths)
    return RoundRobinOrder(made, min(stream.batches for stream in made), mixed=True)


def union(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> ConcatOrder:
    return ConcatOrder(streams(sizes, batch_size, seed, lengths), batch_size, seed)


def one_by_one(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> TaskByTaskOrder:
    return TaskByTaskOrder(streams(sizes, batch_size, seed, lengths))


def picks(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> RandomTasksOrder:
    return RandomTasksOrder(streams(sizes, batch_size, seed, lengths), batch_size, 7, seed)


ORDERS: dict[str, Callable[..., Order]] = {
    made.__name__: made
    for made in (turns, mixed, union, one_by_one, whole, uniform, annealed, picks)
}
EACH_ROW_ONCE = ["union", "one_by_one", "whole"]


def counted(order: Order, epochs: Sequence[int], sizes: Sequence[int]) -> list[Ints]:
    """How often each row of each task is drawn."""
    counts = [np.zeros(size, np.int64) for size in sizes]
    for epoch in epochs:
        for step in range(order.steps):
            for draw in order(epoch, step):
                np.add.at(counts[draw.task], draw.examples, 1)
    return counts
