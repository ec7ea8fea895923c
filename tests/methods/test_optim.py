from typing import Any, get_args

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from mtl.errors import UserError
from mtl.methods import LoRA, MultiHead
from mtl.methods.optim import Optimization
from mtl.methods.parameter_groups import GroupOptions, parameter_groups
from mtl.methods.schedules import Schedule, ScheduleName, learning_rate_schedule
from mtl.tasks import Task


def test_biases_and_norms_have_no_weight_decay(tasks: list[Task], backbone: str) -> None:
    module = MultiHead(tasks=tasks, backbone=backbone)
    matrices, vectors = parameter_groups(module, 1e-3, 0.1)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    assert {names[id(parameter)] for parameter in vectors["params"]} == {
        name for name in names.values() if name.endswith("bias") or "LayerNorm" in name
    }
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)


def rates(schedule: Schedule, warmup: int, steps: int, count: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    return followed(learning_rate_schedule(schedule, optimizer, warmup, steps), count)


def followed(scheduler: LRScheduler, count: int) -> list[Any]:
    found = []
    for _ in range(count):
        found.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def test_the_linear_schedule_warms_up_and_decays_to_zero() -> None:
    assert rates(Schedule("linear"), 2, 6, 6) == pytest.approx([0.0, 1.0, 2.0, 1.5, 1.0, 0.5])


def test_the_constant_schedule_stays_after_warm_up() -> None:
    assert rates(Schedule("constant"), 4, 10, 8) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0]


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("name", get_args(ScheduleName))
def test_every_schedule_is_that_of_transformers(name: ScheduleName, warmup: int) -> None:
    theirs = {"constant": "constant_with_warmup"}.get(name, name)
    options: Any = {"power": 2.5, "lr_end": 0.0} if name == "polynomial" else None
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    expected = followed(get_scheduler(theirs, optimizer, warmup, 12, options), 13)
    assert rates(Schedule(name, power=2.5), warmup, 12, 13) == pytest.approx(expected)


def test_the_first_matching_pattern_sets_the_options_of_a_parameter(
    tasks: list[Task], backbone: str
) -> None:
    module = MultiHead(
        tasks=tasks,
        backbone=backbone,
        lr=1e-3,
        weight_decay=0.1,
        schedule={"name": "polynomial", "power": 2.0},
        groups={"heads.same": {"lr": 3e-3}, "heads": {"lr": 2e-3, "weight_decay": 0.5}},
    )
    assert module.optimization.schedule == Schedule("polynomial", 2.0)
    optimizer = module.optimization.configure(module, 10)["optimizer"]
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found = {
        names[id(parameter)]: (group["initial_lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert found.keys() == set(names.values())
    for name, parameter in module.named_parameters():
        lr, decay = (
            (3e-3, 0.1) if "heads.same" in name else (2e-3, 0.5) if "heads" in name else (1e-3, 0.1)
        )
        assert found[name] == (lr, decay if parameter.ndim > 1 else 0.0)


def test_layer_decay_follows_its_formula(tasks: list[Task], backbone: str) -> None:
    module = LoRA(tasks=tasks, backbone=backbone, freeze=False)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    exponents = {"embeddings": 3, "layer.0": 2, "layer.1": 1}  # not LoRA's updates, `layer/1`
    for group in parameter_groups(module, 1.0, 0.1, layer_decay=0.5):
        for name in (names[id(parameter)] for parameter in group["params"]):
            exponent = next((exponents[part] for part in exponents if part in name), 0)
            assert group["lr"] == 0.5**exponent, name


def test_frozen_steps_leave_weights_unchanged_until_then() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    groups = {r"^0\.": GroupOptions(frozen_steps=3)}
    settings = Optimization(
        0.1, 0.5, 0.0, Schedule("constant"), torch.optim.AdamW, None, groups=groups
    )
    optimizer, scheduler = settings.configure(module, 9).values()
    changed = []
    for _ in range(5):
        before = [parameter.detach().clone() for parameter in module.parameters()]
        module(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        scheduler["scheduler"].step()
        changed.append(
            [
                not torch.equal(old, new)
                for old, new in zip(before, module.parameters(), strict=True)
            ]
        )
    assert changed == 3 * [[False, False, True, True]] + 2 * [4 * [True]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": {"head.same": GroupOptions()}}, "'head.same' is in no name of a trainable"),
        ({"layer_decay": 0.9}, "layer_decay: no trainable parameter is in a layer"),
    ],
)
def test_options_that_fit_no_parameter_are_refused(options: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parameter_groups(torch.nn.Linear(2, 2), 1.0, 0.1, **options)


def test_warm_up_in_steps_needs_no_length_of_the_run() -> None:
    module = torch.nn.Linear(2, 2)
    settings = Optimization(
        2.0, 0.0, 0.1, Schedule("inverse_sqrt"), torch.optim.SGD, None, warmup_steps=4
    )
    scheduler = settings.configure(module, float("inf"))["lr_scheduler"]["scheduler"]
    assert followed(scheduler, 17)[1::5] == pytest.approx(
        [0.5, 2 * (4 / 6) ** 0.5, 2 * (4 / 11) ** 0.5, 1.0]
    )


def test_adamw_is_fused_unless_its_arguments_are_given() -> None:
    module = torch.nn.Linear(2, 2)
    settings = Optimization(1e-3, 0.01, 0.1, Schedule(), torch.optim.AdamW, None)
    optimizer = settings.configure(module, 10)["optimizer"]
    assert optimizer.defaults["fused"] is True
    optimizer = settings._replace(arguments={"eps": 1e-6}).configure(module, 10)["optimizer"]
    assert (optimizer.defaults["fused"], optimizer.defaults["eps"]) == (None, 1e-6)
    adamax = settings._replace(optimizer=torch.optim.Adamax).configure(module, 10)["optimizer"]
    assert isinstance(adamax, torch.optim.Adamax)
