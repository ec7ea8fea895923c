"""The distance of a row from the front of fixed loss weights."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mtl.balancing import Chebyshev
from mtl.compare.definition import Experiment
from mtl.compare.definition_parts import Front, Preset, Variant
from mtl.compare.estimate import RowScores
from mtl.compare.front import Position, front_distance, yardstick
from mtl.compare.plan import Plan
from mtl.compare.run_arguments import run_arguments
from mtl.compare.weightings import simplex_draws
from mtl.errors import UserError
from tests.compare.scored import scored

TASKS = ["cola", "trec", "stsb"]


def row(*tasks: list[float]) -> list[RowScores]:
    return [scored("row", scores) for scores in tasks]


def test_the_distance_is_the_minimum_over_weightings_of_the_largest_difference_over_tasks() -> None:
    front = {"a": row([70, 72], [40, 42]), "b": row([60, 62], [50, 52])}
    found = front_distance(row([68, 70], [46, 48]), front)
    # Against a: -2 and +6; against b: +8 and -4.
    assert (found.distance, found.nearest) == (6, "a")
    behind = front_distance(row([59, 61], [49, 51]), front)
    assert (behind.distance, behind.nearest) == (-1, "b")
    # a is 10 points better than b in the first task, b in the second.
    assert yardstick(front) == {"a": 10, "b": 10}


def test_the_interval_is_that_of_welch_with_corrections_for_tasks_and_for_weightings() -> None:
    generator = np.random.default_rng(3)
    ours = generator.normal(60, 2, (2, 6))
    theirs = {name: generator.normal(58, 2, (2, 6)) for name in "abc"}
    front = {name: row(*scores.tolist()) for name, scores in theirs.items()}
    found = front_distance(row(*ours.tolist()), front, comparisons=4)

    def ends(name: str, level: float) -> list[tuple[float, float]]:
        return [
            stats.ttest_ind(one, other, equal_var=False).confidence_interval(1 - level)
            for one, other in zip(ours, theirs[name], strict=True)
        ]

    # "beyond" is a claim about one of 2 tasks, "behind" about one of 3 weightings.
    low = min(max(low for low, _ in ends(name, 0.05 / 4 / 2)) for name in theirs)
    high = min(max(high for _, high in ends(name, 0.05 / 4 / 3)) for name in theirs)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_chebyshev_descends_on_the_largest_weighted_loss_only() -> None:
    losses = {"a": torch.tensor(1.0, requires_grad=True), "b": torch.tensor(0.4)}
    losses["b"].requires_grad_()
    combined = Chebyshev({"b": 3.0}).combine(losses, {})
    combined.backward()
    assert combined.item() == pytest.approx(1.2)
    gradients = [loss.grad for loss in losses.values()]
    assert gradients == [torch.tensor(0.0), torch.tensor(3.0)]


def test_positions_follow_the_interval() -> None:
    front = {"a": row([70, 70.2, 70.1], [50, 50.2, 50.1])}
    better, equal = row([90, 90.2, 90.1], [10, 10.2, 10.1]), row([70, 70.3, 70], [50, 50.1, 50])
    worse, noisy = row([60, 60.2, 60.1], [40, 40.2, 40.1]), row([50, 70, 90], [40, 50, 60])
    positions = [
        front_distance(each, front).position(margin=1) for each in (better, equal, worse, noisy)
    ]
    assert positions == [Position.BEYOND, Position.ON, Position.BEHIND, Position.UNDECIDED]


def test_a_row_that_is_a_weighting_is_seldom_called_beyond_or_behind() -> None:
    """5 seeds with a deviation of 2 points, 3 tasks, 9 weightings on a concave front."""
    generator = np.random.default_rng(0)
    weights = np.concatenate([np.eye(3), generator.dirichlet(np.ones(3), 6)])
    expected = 70 + 5 * np.sqrt(weights)
    wrong = 0
    for _ in range(200):
        scores = generator.normal(expected[:, :, None], 2, (9, 3, 5)).tolist()
        ours = row(*generator.normal(expected[5][:, None], 2, (3, 5)).tolist())
        found = front_distance(ours, {str(i): row(*each) for i, each in enumerate(scores)})
        wrong += found.position(1) in (Position.BEYOND, Position.BEHIND)
    assert wrong <= stats.binom.ppf(0.999, 200, 0.05)


@given(tasks=st.integers(2, 6), draws=st.integers(1, 40))
def test_weights_lie_on_the_simplex_and_the_first_ones_do_not_depend_on_the_number(
    tasks: int, draws: int
) -> None:
    weights = simplex_draws(tasks, draws)
    assert weights.shape == (draws, tasks)
    assert (weights >= 0).all()
    assert weights.sum(1) == pytest.approx(1)
    np.testing.assert_array_equal(weights[: draws // 2 + 1], simplex_draws(tasks, draws // 2 + 1))


def test_weightings_cover_the_simplex_evenly() -> None:
    """Each of the three thirds in which one task has the largest weight gets its share."""
    largest = simplex_draws(3, 256).argmax(1)
    assert np.bincount(largest) / 256 == pytest.approx(np.full(3, 1 / 3), abs=0.03)


def table(**changed: object) -> Experiment:
    fields = {
        "question": "Is any rule better than fixed weights?",
        "tasks": [f"tasks/{task}" for task in TASKS],
        "baseline": "single",
        "budget": "one pass",
        "rows": {
            "single": Variant(of="task", options={"model": "MultiHead"}),
            "equal": Variant(configs=["sampling/mixed", "methods/multi_head"]),
        },
        "sizes": {"mini": Preset("bundled", seeds=[1, 2])},
        "front": Front("equal", draws=2),
    }
    return Experiment(**(fields | changed))  # type: ignore[arg-type]


def test_every_weighting_is_a_hidden_row_of_the_plan() -> None:
    plan = Plan(table(), "mini")
    names = plan.weightings
    # Three tasks alone and two draws by the weighted mean; equal weights and the draws by the
    # largest weighted loss.
    assert len(names) == 3 + 2 + 1 + 2
    assert "weighted mean 0.00 1.00 0.00" in names
    assert not any(plan.experiment.rows[name].shown for name in names)
    run = next(plan.runs("weighted mean 0.00 1.00 0.00"))
    arguments = run_arguments(plan, run, {})
    option = arguments[arguments.index("--model.balancer") + 1]
    assert '"Fixed"' in option
    assert '{"cola": 0.0, "trec": 3.0, "stsb": 0.0}' in option


def test_weightings_train_with_the_options_tuned_for_equal_weights() -> None:
    plan = Plan(table(), "mini").with_tuned({("equal", None): (("model.lr", 1e-4),)}, {})
    assert next(plan.runs(plan.weightings[0])).choice == (("model.lr", 1e-4),)


@pytest.mark.parametrize(
    ("front", "message"),
    [
        (Front("equl"), "front: row: unknown row 'equl'"),
        (Front("single"), "front: row: single does not train all tasks in one run"),
        (Front("equal", draws=-1), "front: draws: -1: give 0 or more"),
    ],
)
def test_a_front_that_cannot_be_trained_is_refused(front: Front, message: str) -> None:
    with pytest.raises(UserError, match=message):
        table(front=front)
