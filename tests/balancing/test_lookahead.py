import torch
from torch import nn

from mtl.balancing.lookahead import lookahead_affinity


def test_affinity_is_the_relative_reduction_by_a_step_written_out() -> None:
    """Two quadratics of a shared vector, each with a factor of its own."""
    shared = nn.Parameter(torch.tensor([1.0, -2.0]))
    targets = {"x": torch.tensor([0.0, 1.0]), "y": torch.tensor([3.0, -1.0])}
    factors = {"x": nn.Parameter(torch.tensor(2.0)), "y": nn.Parameter(torch.tensor(0.5))}

    def losses() -> dict[str, torch.Tensor]:
        return {task: factors[task] * (shared - targets[task]).square().sum() for task in targets}

    before = shared.detach().clone()
    found = lookahead_affinity(losses, {"shared": shared}, {"shared": 0.1})
    for one in targets:
        gradient = 2 * factors[one].detach() * (before - targets[one])
        stepped = before - 0.1 * gradient
        for other in targets:
            ratio = (stepped - targets[other]).square().sum() / (
                before - targets[other]
            ).square().sum()
            assert torch.isclose(torch.tensor(found[one, other]), 1 - ratio, atol=1e-6)
    assert torch.equal(shared, before)
    assert shared.grad is None and factors["x"].grad is None


def test_a_task_without_loss_is_left_out() -> None:
    shared = nn.Parameter(torch.ones(2))

    def losses() -> dict[str, torch.Tensor]:
        return {"zero": (0 * shared).sum(), "one": shared.square().sum()}

    found = lookahead_affinity(losses, {"shared": shared}, {"shared": 0.1})
    assert set(found) == {("zero", "one"), ("one", "one")}
    assert found["zero", "one"] == 0
