"""The estimators on planted tasks, and their parts against independent computations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import check_grad
from torch.nn.functional import cross_entropy

from mtl.balancing.lookahead import lookahead_affinity
from mtl.grouping.gains import gains_of_affinity, groups_of
from mtl.grouping.linearized import (
    Examples,
    Snapshot,
    estimated_gains,
    fitted_change,
    read_snapshot,
    write_snapshot,
)
from mtl.grouping.projection import Projection, margin, stacked
from mtl.grouping.search import best_groups
from tests.grouping.planted import TASKS, Planted

FAMILIES = {frozenset(TASKS[:2]), frozenset(TASKS[2:])}


def snapshot(model: Planted, dimension: int) -> Snapshot:
    projection = Projection(model.shared, dimension, seed=0)
    parts = []
    for split in model.splits.values():
        examples = {}
        for task, (inputs, labels) in split.items():
            margins = [
                margin(cross_entropy(model.logits(task, row[None]), label))
                for row, label in zip(inputs, labels[:, None], strict=True)
            ]
            gradients = [projection.gradient(each) for each in margins]
            examples[task] = stacked([each.detach() for each in margins], gradients)
        parts.append(examples)
    return Snapshot(*parts)


@pytest.mark.parametrize("seed", range(5))
def test_gradients_find_the_planted_families(seed: int) -> None:
    model = Planted(seed)
    model.train_jointly(40)
    gains = estimated_gains(snapshot(model, 50), groups_of(TASKS))
    found = {frozenset(group.trained) for group in best_groups(TASKS, gains, 2)}
    assert found == FAMILIES


@pytest.mark.parametrize("seed", range(5))
def test_affinity_finds_the_planted_families(seed: int) -> None:
    model, total = Planted(seed), dict[tuple[str, str], float]()
    for _ in range(10):
        model.train_jointly(3)
        measured = lookahead_affinity(model.losses, model.shared, {"weight": 0.05})
        total = {pair: total.get(pair, 0.0) + value for pair, value in measured.items()}
    found = best_groups(TASKS, gains_of_affinity(total, groups_of(TASKS)), 2)
    assert {frozenset(group.trained) for group in found} == FAMILIES


def test_the_margin_gives_the_loss_and_is_the_log_odds_of_the_right_class() -> None:
    logits = torch.randn(7, 3, dtype=torch.double)
    loss = cross_entropy(logits, torch.arange(7) % 3, reduction="none")
    right = logits.softmax(-1)[torch.arange(7), torch.arange(7) % 3]
    torch.testing.assert_close(margin(loss), (right / (1 - right)).log())
    torch.testing.assert_close(torch.nn.functional.softplus(-margin(loss)), loss)


def test_projected_gradients_have_the_inner_products_of_the_exact_ones_in_the_mean() -> None:
    model = Planted(0)
    parameters = dict(model.named_parameters())
    task, inputs = "a", model.splits["train"]["a"][0][:2]

    def value(index: int) -> torch.Tensor:
        return model.logits(task, inputs[index : index + 1]).square().sum()

    exact = [
        torch.cat(
            [
                (torch.zeros_like(parameter) if gradient is None else gradient).flatten()
                for parameter, gradient in zip(
                    parameters.values(),
                    torch.autograd.grad(value(index), list(parameters.values()), allow_unused=True),
                    strict=True,
                )
            ]
        )
        for index in (0, 1)
    ]
    dimension, draws = 40, []
    for seed in range(300):
        projection = Projection(parameters, dimension, seed)
        one, other = (projection.gradient(value(index)) for index in (0, 1))
        draws.append([float(one @ other), float(one @ one)])
    mean, error = np.mean(draws, 0), np.std(draws, 0, ddof=1) / np.sqrt(len(draws))
    wanted = [float(exact[0] @ exact[1]), float(exact[0] @ exact[0])]
    assert np.all(np.abs(mean - wanted) < 4 * error)
    # With a coordinate of its own for each entry of a parameter they are exact.
    whole = Projection(model.shared, model.encoder.weight.numel(), seed=0)
    one, other = (whole.gradient(value(index)) for index in (0, 1))
    grads = [torch.autograd.grad(value(i), model.encoder.weight)[0].flatten() for i in (0, 1)]
    torch.testing.assert_close(one @ other, grads[0] @ grads[1])


def test_the_fitted_change_is_the_minimum_of_the_regularized_logistic_loss() -> None:
    rng = np.random.default_rng(0)
    parts = [Examples(rng.normal(size=n), rng.normal(size=(n, 3))) for n in (4, 9)]

    def loss(change: np.ndarray) -> float:
        means = [part.losses(change).mean() for part in parts]
        return float(np.mean(means) + 0.1 / 2 * change @ change)

    found = fitted_change(parts, 0.1)
    assert check_grad(loss, lambda change: np.zeros(3), found) < 1e-4
    nearby = found + 1e-2 * rng.normal(size=(50, 3))
    assert all(loss(found) < loss(change) for change in nearby)
    assert np.all(np.abs(fitted_change(parts, 1e6)) < 1e-5)  # the weights stay as they are


def test_gains_do_not_depend_on_the_scale_of_the_gradients(tmp_path: Path) -> None:
    def parts(scale: float) -> dict[str, Examples]:
        draws = np.random.default_rng(2)
        return {
            task: Examples(draws.normal(size=6), scale * draws.normal(size=(6, 4))) for task in "ab"
        }

    gains = [
        estimated_gains(Snapshot(parts(scale), parts(scale)), groups_of("ab"))
        for scale in (1.0, 100.0)
    ]
    for group, of_tasks in gains[0].items():
        assert of_tasks == pytest.approx(gains[1][group], abs=1e-4)
    path = tmp_path / "snapshot.npz"
    write_snapshot(path, Snapshot(parts(1.0), parts(2.0)))
    again = read_snapshot(path)
    assert again.dimension == 4
    np.testing.assert_allclose(again.validation["b"].gradients, parts(2.0)["b"].gradients, 1e-6)
    np.testing.assert_allclose(again.train["a"].margins, parts(1.0)["a"].margins, 1e-6)
