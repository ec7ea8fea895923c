import inspect
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mtl.balancing
import mtl.callbacks
import mtl.data
import mtl.methods
import mtl.modules
import mtl.regularizers
from mtl.__main__ import main
from mtl.balancing import Fixed
from mtl.bounds import Bounds, Count, Positive, ShareBelowOne, check_bounds
from mtl.data.augmentation import Augmentation
from mtl.errors import UserError
from mtl.methods import MultiTaskModule
from mtl.modules.heads import SAN, HeadFactory, Linear
from mtl.regularizers import SMART, Regularizer
from mtl.tasks.fields import Prompt

CONFIGURED = (
    MultiTaskModule,
    mtl.data.MultiTaskDataModule,
    mtl.balancing.Balancer,
    Regularizer,
    HeadFactory,
)


class Example:
    def __init__(
        self, share: ShareBelowOne, sizes: Count | dict[str, Count] | None = None, **rest: Any
    ) -> None: ...


class Derived(Example):
    def __init__(self, rate: Positive | str = 1.0, free: float = 0.0, **rest: Any) -> None: ...


@given(st.floats())
def test_a_number_is_within_bounds_if_it_is_finite_and_between_the_ends(value: float) -> None:
    assert (value in Bounds(0, 1)) == (0 <= value <= 1)
    assert (value in Bounds(0, 1, high_open=True)) == (0 <= value < 1)
    assert (value in Bounds(0, low_open=True)) == (0 < value < math.inf)
    assert (value in Bounds()) == math.isfinite(value)


@pytest.mark.parametrize(
    "values",
    [
        {"share": 0.0, "sizes": 1, "rate": 0.1, "free": math.nan},
        {"share": 0.5, "sizes": {"a": 3}, "rate": "annealed", "other": -1},
        {"sizes": None},
    ],
)
def test_values_within_bounds_are_accepted(values: dict[str, Any]) -> None:
    check_bounds(Derived, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 1.0}, "--a.share 1.0: give 0 or more, and less than 1"),
        ({"sizes": 0}, "--a.sizes 0: give 1 or more"),
        ({"sizes": {"a": 3, "b": -2}}, "--a.sizes -2: give 1 or more"),
        ({"rate": 0.0}, "--a.rate 0.0: give more than 0"),
        ({"rate": math.inf}, "--a.rate inf: give a finite number, more than 0"),
    ],
)
def test_values_out_of_bounds_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        check_bounds(Derived, values, "--a.")
    assert str(refused.value) == message


def configured_classes() -> Iterator[type[Any]]:
    for package in (
        mtl.methods,
        mtl.data,
        mtl.balancing,
        mtl.regularizers,
        mtl.modules,
    ):
        for name in package.__all__:
            value = getattr(package, name)
            if inspect.isclass(value) and issubclass(value, CONFIGURED):
                yield value
    yield from (Augmentation, Prompt, mtl.callbacks.GradientConflicts)


def unbounded(annotation: Any) -> bool:
    """Whether a number in an annotation has no bounds."""
    if isinstance(getattr(annotation, "__metadata__", [None])[0], Bounds):
        return False
    return annotation in (int, float) or any(map(unbounded, getattr(annotation, "__args__", ())))


@pytest.mark.parametrize(
    "cls", list(dict.fromkeys(configured_classes())), ids=lambda cls: cls.__name__
)
def test_every_number_in_a_configured_class_has_bounds(cls: type[Any]) -> None:
    numbers = [
        parameter.name
        for base in cls.__mro__
        if "__init__" in vars(base)
        for parameter in inspect.signature(vars(base)["__init__"]).parameters.values()
        if unbounded(parameter.annotation)
    ]
    assert not numbers


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: SMART(weight=-1.0), "SMART: weight -1.0: give 0 or more"),
        (lambda: SMART(epsilon=math.nan), "SMART: epsilon nan"),
        (lambda: Fixed({"mood": -1.0}), "balancer weights -1.0: give 0 or more"),
        (lambda: SAN(steps=0), "head: steps 0: give 1 or more"),
        (lambda: Linear(hidden_layers=-1), "head: hidden_layers -1: give 0 or more"),
        (lambda: Augmentation(words=0), "augment: words 0: give 1 or more"),
        (lambda: Augmentation(swap=1.5), "augment: swap 1.5: give 0 or more, and at most 1"),
    ],
)
def test_objects_created_in_python_are_checked_too(create: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        create()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.warmup=2"], "--model.warmup 2: give 0 or more, and at most 1"),
        (["--model.warmup=-0.5"], "--model.warmup -0.5: give 0 or more, and at most 1"),
        (["--model.weight_decay=-1"], "--model.weight_decay -1: give 0 or more"),
        (["--model.lr=-1"], "--model.lr -1: give 0 or more"),
        (["--model.lr=.nan"], "--model.lr nan: give a finite number, 0 or more"),
        (["--model.lr=.inf"], "--model.lr inf: give a finite number, 0 or more"),
        (["--model.dropout={mood: 1.0}"], "--model.dropout 1: give 0 or more, and less than 1"),
        (["--data.holdout=1"], "--data.holdout 1: give 0 or more, and less than 1"),
        (["--data.batch_size=0"], "--data.batch_size 0: give 1 or more"),
        (["--model.regularizer=SMART", "--model.regularizer.noise=0"], "--model.regularizer.noise"),
        (["--model.head=Linear", "--model.head.hidden_layers=-2"], "--model.head.hidden_layers -2"),
        (
            ["--model.balancer=Fixed", "--model.balancer.weights={mood: -1}"],
            "--model.balancer.weights -1: give 0 or more",
        ),
        (["--save_every=0"], "--save_every 0: give 1 or more"),
    ],
)
def test_options_are_refused_before_anything_is_loaded(
    options: list[str],
    message: str,
    task_files: list[Path],
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):  # the backbone does not exist
        main(["fit", f"--tasks+={task_files[0]}", "--backbone=no/such", *options])
    # The check of the words names a number as it was written, the parser as it was read.
    error = re.sub(r"(?<=\d)\.0(?=:)", "", capsys.readouterr().err)
    assert error.startswith(f"mtl: error: {message}")
    assert not list(in_tmp.iterdir())
