"""Bounds of numeric options, declared in the annotations of constructor arguments."""

import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple, get_args

from mtl.errors import UserError


class Bounds(NamedTuple):
    """Finite numbers between two ends.

    Attributes:
        low: The lower end.
        high: The upper end.
        low_open: Whether `low` itself is excluded.
        high_open: Whether `high` itself is excluded.
    """

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def __repr__(self) -> str:
        """The bounds in words, as help and errors show them."""
        if self.low == -math.inf:
            return "a finite number"
        lowest = f"more than {self.low:g}" if self.low_open else f"{self.low:g} or more"
        if self.high == math.inf:
            return lowest
        return f"{lowest}, and {'less than' if self.high_open else 'at most'} {self.high:.10g}"

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not math.isfinite(value):
            return False
        above = value > self.low if self.low_open else value >= self.low
        return above and (value < self.high if self.high_open else value <= self.high)


Count = Annotated[int, Bounds(1)]
NonNegativeInt = Annotated[int, Bounds(0)]
Finite = Annotated[float, Bounds()]
Positive = Annotated[float, Bounds(0, low_open=True)]
NonNegative = Annotated[float, Bounds(0)]
Share = Annotated[float, Bounds(0, 1)]
PositiveShare = Annotated[float, Bounds(0, 1, low_open=True)]
ShareBelowOne = Annotated[float, Bounds(0, 1, high_open=True)]


def check_bounds(cls: type[Any], values: Mapping[str, Any], prefix: str = "") -> None:
    """Checks the numbers among the arguments of a class.

    Args:
        cls: The class; its constructor's annotations, and those of its bases, give the bounds.
        values: Values by argument; other entries are ignored.
        prefix: What precedes an argument's name in the message, such as `--model.`.

    Raises:
        UserError: If a number, or one within a list or mapping, is out of bounds, NaN or infinite.
    """
    for name, annotation in _annotations(cls).items():
        bounds = next(_bounds(annotation), None)
        if bounds is None or name not in values:
            continue
        for value in _numbers(values[name]):
            if value not in bounds:
                finite = "" if math.isfinite(value) or bounds == Bounds() else "a finite number, "
                raise UserError(f"{prefix}{name} {value}: give {finite}{bounds!r}")


def _annotations(cls: type[Any]) -> dict[str, Any]:
    """The annotations of the constructor arguments of a class and its bases, by name."""
    annotations: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            annotations |= {parameter.name: parameter.annotation for parameter in parameters}
    return annotations


def _bounds(annotation: Any) -> Iterator[Bounds]:
    """The bounds within an annotation such as `dict[str, Annotated[float, Bounds(0)]] | None`."""
    for part in get_args(annotation):
        if isinstance(part, Bounds):
            yield part
        else:
            yield from _bounds(part)


def _numbers(value: Any) -> Iterator[int | float]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)
