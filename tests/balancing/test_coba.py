"""CoBa against its formulas written out, and in a training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtl.balancing import CoBa
from mtl.balancing.coba import slope
from mtl.data import RoundRobinDataModule
from mtl.methods import MultiHead
from mtl.tasks import Task
from tests.methods.training import fit

TASKS = ("a", "b", "c")


def softmax(values: np.ndarray) -> np.ndarray:
    return np.exp(values) / np.exp(values).sum()


def written_out(losses: np.ndarray, tau: float, history: int) -> np.ndarray:
    """Weights after validations with these losses, (validations, tasks); no slope may be zero."""
    ratios, tasks = losses / losses[0], losses.shape[1]
    slopes, largest = [], []
    for end in range(2, len(losses) + 1):
        window = ratios[max(0, end - history) : end]
        places = np.arange(len(window))
        slopes.append([np.polyfit(places, window[:, task], 1)[0] for task in range(tasks)])
        largest.append(np.polyfit(places, window.max(1), 1)[0])
    alpha, top = np.array(slopes), np.array(largest)
    recent = alpha[-history:]
    rcs = softmax(tasks * alpha[-1] / np.abs(alpha[-1]).sum())
    acs = softmax(-len(recent) * alpha[-1] / np.abs(recent).sum(0))
    factor = len(top) * softmax(-tau * len(top) * top / np.abs(top).sum())[-1]
    factor = min(factor, 1.0)
    weights = softmax(tasks * (factor * rcs + (1 - factor) * acs))
    floor = 1 / (10 * tasks)
    return weights * (1 - tasks * floor) + floor if weights.min() < floor else weights


@given(
    losses=st.lists(
        st.lists(st.floats(0.1, 3), min_size=3, max_size=3), min_size=2, max_size=7, unique_by=tuple
    ),
    history=st.integers(2, 5),
    tau=st.floats(0.1, 10),
)
def test_weights_are_those_of_the_formulas(
    losses: list[list[float]], history: int, tau: float
) -> None:
    # Losses that all differ: the formulas divide by sums of slopes.
    values = np.array(losses) + np.random.default_rng(0).uniform(0.01, 0.02, (len(losses), 3))
    balancer = CoBa(tau, history)
    for each in values:
        balancer.on_validation_losses(dict(zip(TASKS, each.tolist(), strict=True)))
    expected = len(TASKS) * written_out(values, tau, history)
    assert [balancer.weights[task] for task in TASKS] == pytest.approx(expected.tolist(), rel=1e-6)


def test_a_slow_task_weighs_more_and_a_task_that_diverges_less() -> None:
    balancer = CoBa()
    for step in range(4):
        balancer.on_validation_losses({"fast": 1 - 0.2 * step, "slow": 1 - 0.02 * step})
    assert balancer.weights["slow"] > 1 > balancer.weights["fast"]
    # From now on one loss rises, faster and faster: the factor falls towards 0.
    for step in range(1, 6):
        balancer.on_validation_losses({"fast": 0.4, "slow": 0.94 + 0.1 * step**2})
    assert balancer.weights["slow"] < 1 < balancer.weights["fast"]


def test_the_combined_loss_is_the_weighted_sum_and_equal_before_the_second_validation() -> None:
    balancer, losses = CoBa(), {task: torch.tensor(float(n)) for n, task in enumerate(TASKS, 1)}
    assert balancer.combine(losses, {}) == pytest.approx(2.0)
    balancer.on_validation_losses(dict.fromkeys(TASKS, 1.0))
    assert balancer.combine(losses, {}) == pytest.approx(2.0)
    balancer.on_validation_losses({"a": 0.5, "b": 0.9, "c": 1.1})
    weights = {task: weight / 3 for task, weight in balancer.weights.items()}
    assert sum(weights.values()) == pytest.approx(1)
    assert float(balancer.combine(losses, {})) == pytest.approx(
        sum(weights[task] * float(loss) for task, loss in losses.items())
    )
    again = CoBa()
    again.set_extra_state(balancer.get_extra_state())
    for each in (balancer, again):
        each.on_validation_losses({"a": 0.4, "b": 0.8, "c": 1.2})
    assert again.weights == balancer.weights


def test_slopes_that_are_zero_give_equal_weights() -> None:
    balancer = CoBa()
    for _ in range(3):
        balancer.on_validation_losses(dict.fromkeys(TASKS, 1.0))
    assert list(balancer.weights.values()) == pytest.approx([1.0] * 3)
    assert slope(np.array([4.0])) == 0


def test_a_training_passes_each_tasks_validation_loss(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    module = MultiHead(tasks=tasks, backbone=backbone, balancer=CoBa(), lr=1e-2)
    data = RoundRobinDataModule(tasks=tasks, backbone=backbone, max_length=16, mixed=True)
    fit(module, data, max_epochs=3, num_sanity_val_steps=0)
    balancer = module.balancer
    assert isinstance(balancer, CoBa)
    last = {name: result["loss"] for name, result in module.latest.items()}
    state = balancer.get_extra_state()
    assert len(state["losses"]) == 3
    assert dict(zip(state["tasks"], state["losses"][-1], strict=True)) == pytest.approx(last)
    expected = 3 * written_out(np.array(state["losses"]), 5.0, 10)
    assert [balancer.weights[task] for task in state["tasks"]] == pytest.approx(expected.tolist())
