"""Overrides in balancers, regularizers and sampling schemes take their base's arguments."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import mtl.balancing
import mtl.data
import mtl.regularizers
from mtl.training.lifecycle import TrainingHooks

BASES = (mtl.balancing.Balancer, mtl.regularizers.Regularizer, mtl.data.MultiTaskDataModule)


def subclasses(cls: Any) -> Iterator[Any]:
    """All subclasses that the package defines."""
    for child in cls.__subclasses__():
        if child.__module__.startswith("mtl."):
            yield child
        yield from subclasses(child)


def overrides() -> list[Any]:
    """Each public method that a class of the package overrides, with the class it overrides."""
    return [
        pytest.param(cls, base, name, id=f"{cls.__name__}.{name}")
        for cls in dict.fromkeys(subclasses(TrainingHooks))
        for base in (TrainingHooks, *BASES)
        if cls is not base and issubclass(cls, base)
        for name, method in vars(base).items()
        if inspect.isfunction(method) and not name.startswith("_") and name in vars(cls)
    ]


def parameters(cls: type, name: str) -> list[tuple[str, Any]]:
    signature = inspect.signature(getattr(cls, name))
    return [(each.name, each.kind) for each in signature.parameters.values()]


@pytest.mark.parametrize(("cls", "base", "name"), overrides())
def test_an_override_takes_the_arguments_of_its_base(cls: type, base: type, name: str) -> None:
    assert parameters(cls, name) == parameters(base, name)


def test_bases_do_not_change_the_hooks() -> None:
    """Whoever overrides a hook reads one description of it."""
    hooks = {name for name in vars(TrainingHooks) if name.startswith("on_")}
    assert not any(hooks & vars(base).keys() for base in BASES)
