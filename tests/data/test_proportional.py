from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers, lists
from scipy import stats

from mtl.data import ProportionalDataModule, UniformDataModule
from mtl.data.proportional import WeightedOrder
from mtl.errors import UserError
from mtl.tasks import Task
from tests.contracts.orders import streams

SIZES = [8551, 3668, 67349, 2490, 635]


def shares(order: WeightedOrder, epochs: range) -> np.ndarray:
    tasks = [order(epoch, step)[0].task for epoch in epochs for step in range(order.steps)]
    return np.bincount(tasks, minlength=len(order.streams))


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.5, 1.0])
def test_tasks_are_drawn_with_probability_n_to_the_alpha(alpha: float) -> None:
    order = WeightedOrder(streams(SIZES, 32, lengths=False), SIZES, [alpha], 500, seed=1)
    drawn = shares(order, range(4))
    expected = np.array([size**alpha for size in SIZES])
    assert stats.chisquare(drawn, expected / expected.sum() * drawn.sum()).pvalue > 1e-3


@settings(deadline=None)
@given(
    sizes=lists(integers(1, 10**6), min_size=1, max_size=9),
    alpha=floats(0, 1),
    steps=integers(1, 60),
    epoch=integers(0, 5),
)
def test_an_epoch_gives_a_task_its_expected_batches_rounded_up_or_down(
    sizes: list[int], alpha: float, steps: int, epoch: int
) -> None:
    counts = WeightedOrder(streams(sizes, 32, lengths=False), sizes, [alpha], steps, seed=1).counts(
        epoch
    )
    weights = np.array([float(size) ** alpha for size in sizes])
    expected = steps * weights / weights.sum()
    assert counts.sum() == steps
    assert (counts >= np.floor(expected - 1e-5)).all()
    assert (counts <= np.ceil(expected + 1e-5)).all()


def test_a_task_with_less_than_one_expected_batch_gets_one_in_some_epochs() -> None:
    order = WeightedOrder(streams([10, 990], 10), [10, 990], [1.0], 20, seed=0)
    drawn = [int(order.counts(epoch)[0]) for epoch in range(2000)]
    assert set(drawn) == {0, 1}
    assert stats.binomtest(sum(drawn), 2000, 0.2).pvalue > 1e-3


def test_annealing_goes_from_proportional_to_nearly_uniform(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = ProportionalDataModule(alpha="annealed", tasks=tasks, backbone=backbone)
    data.trainer = cast(Any, SimpleNamespace(max_epochs=5))
    order = data.order(streams(SIZES, 32, lengths=False))
    for epoch, alpha in enumerate(
        [1.0, 0.8, 0.6, 0.4, 0.2]
    ):  # 1 - 0.8 (e - 1)/(E - 1) for e = 1 ... 5
        expected = np.array([size**alpha for size in SIZES])
        assert np.abs(order.counts(epoch) - order.steps * expected / expected.sum()).max() < 1


def test_annealing_needs_the_number_of_epochs(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = ProportionalDataModule(alpha="annealed", tasks=tasks, backbone=backbone)
    data.trainer = cast(Any, SimpleNamespace(max_epochs=-1))
    with pytest.raises(UserError, match="--trainer.max_epochs"):
        data.order(streams(SIZES, 32, lengths=False))


def test_the_cap_limits_the_largest_task(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    data = ProportionalDataModule(cap=1000, tasks=tasks, backbone=backbone)
    counts = data.order(streams([500, 1000, 10**6], 10, lengths=False)).counts(0)
    assert np.abs(counts / counts.sum() - [0.2, 0.4, 0.4]).max() < 1e-3


def test_alpha_one_draws_each_batch_once_per_epoch(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = ProportionalDataModule(tasks=tasks, backbone=backbone)
    order = data.order(streams(SIZES[:3], 32, lengths=False))
    assert [order.counts(epoch).tolist() for epoch in range(2)] == [
        [268, 115, 2105]
    ] * 2  # as in MT-BERT's schedule


@pytest.mark.parametrize("share", [1.0, 0.5, 0.001])
def test_uniform_sampling_gives_every_task_a_share_of_the_largest(
    share: float, tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = UniformDataModule(share=share, tasks=tasks, backbone=backbone)
    order = data.order(streams(SIZES, 32, lengths=False))
    assert order.counts(2).tolist() == [round(2105 * share)] * 5
