import pytest
import torch

from mtl.methods import MultiHead
from mtl.methods.optim import Optimization, learning_rate_schedule, parameter_groups
from mtl.tasks import Task


def test_biases_and_norms_have_no_weight_decay(tasks: list[Task], backbone: str) -> None:
    module = MultiHead(tasks=tasks, backbone=backbone)
    matrices, vectors = parameter_groups(module, 1e-3, 0.1)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    assert {names[id(parameter)] for parameter in vectors["params"]} == {
        name for name in names.values() if name.endswith("bias") or "LayerNorm" in name
    }
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)


def test_the_linear_schedule_warms_up_and_decays_to_zero() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = learning_rate_schedule("linear", optimizer, 2, 6)
    rates = []
    for _ in range(6):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.0, 1.0, 2.0, 1.5, 1.0, 0.5])


def test_the_constant_schedule_stays_after_warm_up() -> None:
    optimizer = torch.optim.Adamax([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule, rates = learning_rate_schedule("constant", optimizer, 4, 10), []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]


def test_adamw_is_fused_unless_its_arguments_are_given() -> None:
    module = torch.nn.Linear(2, 2)
    settings = Optimization(1e-3, 0.01, 0.1, "linear", torch.optim.AdamW, None)
    optimizer = settings.configure(module, 10)["optimizer"]
    assert optimizer.defaults["fused"] is True
    optimizer = settings._replace(arguments={"eps": 1e-6}).configure(module, 10)["optimizer"]
    assert (optimizer.defaults["fused"], optimizer.defaults["eps"]) == (None, 1e-6)
    adamax = settings._replace(optimizer=torch.optim.Adamax).configure(module, 10)["optimizer"]
    assert isinstance(adamax, torch.optim.Adamax)
