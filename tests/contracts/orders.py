"""Every order of a training epoch, to test what all of them promise."""

from collections.abc import Callable, Sequence

import numpy as np

from mtl.data.interval_order import Interval, IntervalOrder, proportional
from mtl.data.leave_one_out import RandomTasksOrder
from mtl.data.order import Draw, Order, Stream
from mtl.data.permutation import Ints
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


def proportional_to_size(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> WeightedOrder:
    """Proportional sampling with alpha 1."""
    tasks = streams(sizes, batch_size, seed, lengths)
    batches = [stream.batches for stream in tasks]
    return WeightedOrder(tasks, batches, [1.0], sum(batches), seed)


def uniform(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> WeightedOrder:
    tasks = streams(sizes, batch_size, seed, lengths)
    steps = len(sizes) * max(stream.batches for stream in tasks)
    return WeightedOrder(tasks, [1] * len(sizes), [0.0], steps, seed)


def annealed(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> WeightedOrder:
    tasks = streams(sizes, batch_size, seed, lengths)
    return WeightedOrder(tasks, sizes, [1.0, 0.6, 0.2], 3 * len(sizes), seed)


def round_robin(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> RoundRobinOrder:
    tasks = streams(sizes, batch_size, seed, lengths)
    return RoundRobinOrder(tasks, max(stream.batches for stream in tasks))


def mixed(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> RoundRobinOrder:
    tasks = streams(sizes, batch_size, seed, lengths)
    return RoundRobinOrder(tasks, min(stream.batches for stream in tasks), mixed=True)


def concatenated(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> ConcatOrder:
    return ConcatOrder(streams(sizes, batch_size, seed, lengths), batch_size, seed)


def task_by_task(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> TaskByTaskOrder:
    return TaskByTaskOrder(streams(sizes, batch_size, seed, lengths))


def random_tasks(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> RandomTasksOrder:
    return RandomTasksOrder(streams(sizes, batch_size, seed, lengths), batch_size, 7, seed)


class Intervals:
    """Interval after interval of `IntervalOrder`, with losses that change in a known way."""

    length = 7

    def __init__(self, tasks: Sequence[Stream], steps: int, seed: int) -> None:
        self.tasks, self.steps, self.seed = tasks, steps, seed

    def __call__(self, epoch: int, step: int) -> list[Draw]:
        batches = np.zeros(len(self.tasks), np.int64)
        for interval in range(epoch * self.per_epoch + step // self.length + 1):
            losses = np.random.default_rng(interval).random(len(self.tasks)).tolist()
            state = Interval(*divmod(interval, self.per_epoch), proportional(losses), batches)
            order = IntervalOrder(self.tasks, state, self.length, self.steps, self.seed)
            batches = batches + order.counts
        return order(epoch, step)

    @property
    def per_epoch(self) -> int:
        return -(-self.steps // self.length)


def intervals(
    sizes: Sequence[int], batch_size: int, seed: int = 0, lengths: bool = True
) -> Intervals:
    return Intervals(streams(sizes, batch_size, seed, lengths), 5 * min(5, len(sizes)), seed)


ORDERS: dict[str, Callable[..., Order]] = {
    make.__name__: make
    for make in (
        *(round_robin, mixed, concatenated, task_by_task),
        *(proportional_to_size, uniform, annealed, random_tasks, intervals),
    )
}
EACH_EXAMPLE_ONCE = ["concatenated", "task_by_task", "proportional_to_size"]


def counted(order: Order, epochs: Sequence[int], sizes: Sequence[int]) -> list[Ints]:
    """How often each example of each task is drawn."""
    counts = [np.zeros(size, np.int64) for size in sizes]
    for epoch in epochs:
        for step in range(order.steps):
            for draw in order(epoch, step):
                np.add.at(counts[draw.task], draw.examples, 1)
    return counts
