import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torchjd.scalarization as scalarization
from torch import Tensor

from mtl.__main__ import main
from mtl.balancing import Scalarized
from mtl.errors import UserError

ARGS: dict[str, dict[str, Any]] = {
    "STCH": {"mu": 1.0},
    "Constant": {"weights": [1.0, 2.0, 0.5]},
    "PBI": {"weights": [1.0, 1.0, 1.0], "theta": 1.0},
    "COSMOS": {"weights": [1.0, 1.0, 1.0], "lambda_": 1.0},
}
NAMES = [name for name in scalarization.__all__ if name != "Scalarizer"]


def make_balancer(name: str, **args: Any) -> Scalarized:
    balancer = Scalarized(getattr(scalarization, name), ARGS.get(name, {}) | args)
    balancer.setup(["a", "b", "c"])
    return balancer


def losses(*values: float) -> dict[str, Tensor]:
    return dict(zip("abc", torch.tensor(values, requires_grad=True).unbind(), strict=True))


def test_uncertainty_weighting_is_the_formula_of_kendall_et_al() -> None:
    balancer = make_balancer("UW")
    with torch.no_grad():
        balancer.rule.log_var.copy_(torch.tensor([0.5, -1.0, 0.0]))
    expected = sum(
        0.5 * math.exp(-s) * loss + 0.5 * s for s, loss in ((0.5, 1.0), (-1.0, 2.0), (0.0, 3.0))
    )
    assert float(balancer.combine(losses(1.0, 2.0, 3.0), {}).detach()) == pytest.approx(expected)
    assert [name for name, _ in balancer.named_parameters()] == ["rule.log_var"]


def test_dynamic_weight_average_compares_the_last_two_epochs() -> None:
    balancer = make_balancer("DWA", temperature=2.0)
    for epoch in ((4.0, 2.0, 1.0), (2.0, 2.0, 1.0)):
        assert float(balancer.combine(losses(*epoch), {}).detach()) == pytest.approx(sum(epoch))
        balancer.on_epoch_end()
    rates = [math.exp(rate / 2.0) for rate in (0.5, 1.0, 1.0)]
    expected = sum(
        3 * rate / sum(rates) * loss for rate, loss in zip(rates, (1.0, 1.0, 1.0), strict=True)
    )
    assert float(balancer.combine(losses(1.0, 1.0, 1.0), {}).detach()) == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_every_scalarizer_continues_exactly_from_a_checkpoint(name: str, in_tmp: Path) -> None:
    def step(balancer: Scalarized, *values: float) -> float:
        combined = float(balancer.combine(losses(*values), {}).detach())
        if balancer.recomputes_losses:
            balancer.on_step_end(losses(*(0.9 * value for value in values)))
        balancer.on_epoch_end()
        return combined

    one = make_balancer(name)
    step(one, 1.0, 2.0, 3.0), step(one, 0.5, 1.9, 3.1)
    torch.save(one.state_dict(), "state.pt")
    two = make_balancer(name)
    two.load_state_dict(torch.load("state.pt", weights_only=True))
    for values in ((0.4, 1.5, 2.9), (0.4, 1.6, 2.0)):
        assert step(one, *values) == step(two, *values)


def test_wrong_arguments_are_reported_by_name() -> None:
    with pytest.raises(UserError, match="DWA: .*'heat'.*it takes temperature"):
        Scalarized(scalarization.DWA, {"heat": 1.0}).setup(["a"])


@pytest.mark.parametrize(
    ("sampling", "balancing", "needs"),
    [
        ("round_robin", "pcgrad", "some"),
        ("sequential", "uncertainty_weighting", "all"),
        ("sequential", "gradvac", "all"),
    ],
)
def test_a_scheme_whose_batches_contain_too_few_tasks_is_rejected_before_training(
    sampling: str,
    balancing: str,
    needs: str,
    task_files: list[Path],
    backbone: str,
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configs = Path(__file__).parents[2] / "configs"
    arguments = [
        "fit",
        *[f"--tasks+={file}" for file in task_files],
        "--backbone",
        backbone,
        "--trainer.accelerator",
        "cpu",
    ]
    arguments += [
        "-c",
        str(configs / f"sampling/{sampling}.yaml"),
        "-c",
        str(configs / f"balancing/{balancing}.yaml"),
    ]
    with pytest.raises(SystemExit):
        main([*arguments, "--trainer.fast_dev_run", "true"])
    assert f"needs batches with {needs} of the tasks" in capsys.readouterr().err
