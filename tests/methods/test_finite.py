"""A training stops at the first value that is not finite; on a GPU it is read now and then."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

from mtl.errors import UserError
from mtl.methods.finite import FiniteCheck, check_finite_weights


def module(device: str, gradient: float = 1.0, **trainer: Any) -> Any:
    layer = nn.Linear(2, 1)
    for parameter in layer.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    settings = {"global_step": 0, "log_every_n_steps": 3, "precision_plugin": None}
    return SimpleNamespace(
        device=SimpleNamespace(type=device),
        trainer=SimpleNamespace(**settings | {"precision": "16-mixed"} | trainer),
        optimization=SimpleNamespace(lr=0.1, warmup=0.0),
        parameters=layer.parameters,
        named_parameters=layer.named_parameters,
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_first_bad_loss_is_named(value: float) -> None:
    check, run = FiniteCheck(), module("cpu")
    check.add_losses(
        1, {"a": torch.tensor(1.0), "b": torch.tensor(value), "c": torch.tensor(value)}
    )
    with pytest.raises(UserError, match=r"step 1: the loss of task 'b' is .*--model.lr \(0.1\)"):
        check.add_gradients(run)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_gradients_that_are_not_finite_or_overflow_are_named(value: float) -> None:
    with pytest.raises(UserError, match="step 1: the norm of the gradients is .*bf16-mixed"):
        FiniteCheck().add_gradients(module("cpu", gradient=value))


def test_a_gpu_is_read_at_intervals_and_the_first_step_is_still_named() -> None:
    check, run = FiniteCheck(), module("cuda")
    for step in range(3):
        run.trainer.global_step = step
        check.add_losses(step + 1, {"a": torch.tensor(float("nan") if step else 1.0)})
        if step < 2:
            check.add_gradients(run)
    with pytest.raises(UserError, match="step 2: the loss of task 'a' is nan"):
        check.add_gradients(run)


def test_fp16_may_skip_steps_whose_gradients_overflow_but_not_again_and_again() -> None:
    scaler = torch.amp.GradScaler("cpu")
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    run = module("cpu", gradient=float("inf"), precision_plugin=plugin)
    FiniteCheck().add_gradients(run)
    scaler._lazy_init_scale_growth_tracker(torch.device("cpu"))
    scaler.update(2.0**-11)
    with pytest.raises(UserError, match="the gradients overflow in fp16 again and again"):
        FiniteCheck().add_gradients(run)


def test_weights_that_are_not_finite_are_named() -> None:
    run = module("cpu")
    check_finite_weights(run)
    with torch.no_grad():
        list(run.parameters())[1].fill_(float("nan"))
    with pytest.raises(UserError, match="the weights of bias are not finite"):
        check_finite_weights(run)
