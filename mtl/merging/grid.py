"""The coefficients of merging, and the values that are tried. Imports no libraries."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from mtl.errors import UserError


class Coefficients(NamedTuple):
    """The coefficients of one merged model; None for those that its method does not have.

    Attributes:
        density: Share of the values of a task vector that is kept.
        scale: Factor of the merged task vector.
    """

    density: float | None = None
    scale: float | None = None

    def __str__(self) -> str:
        """Such as `density 0.2, scale 1`; empty without coefficients."""
        named = zip(self._fields, self, strict=True)
        return ", ".join(f"{name} {value:g}" for name, value in named if value is not None)


class Grid(NamedTuple):
    """The values of each coefficient that are tried by default; empty if a method has none."""

    densities: Sequence[float] = ()
    scales: Sequence[float] = ()


# The papers choose on validation data: task arithmetic from scales 0 to 1; TIES keeps 10, 20 or
# 30 percent and scales by 0.8 to 3; DARE drops from 10 to 99 percent.
GRIDS = {
    "mean": Grid(),
    "task_arithmetic": Grid(scales=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
    "ties": Grid(densities=(0.1, 0.2, 0.5), scales=(0.4, 0.7, 1.0, 1.3, 1.6, 2.0)),
    "dare": Grid(densities=(0.1, 0.5), scales=(0.2, 0.3, 0.4, 0.6, 0.8, 1.0)),
}


def coefficients_to_try(
    method: str, densities: Sequence[float] | None, scales: Sequence[float] | None
) -> list[Coefficients]:
    """All combinations of the values, density by density.

    Args:
        method: A name in `GRIDS`.
        densities: The densities. Default: those of the method's grid.
        scales: The scales. Default: those of the method's grid.

    Raises:
        UserError: If the method does not have a coefficient that is given.
    """
    grid = GRIDS[method]
    for option, given, own in (
        ("density", densities, grid.densities),
        ("scale", scales, grid.scales),
    ):
        if given and not own:
            raise UserError(f"--{option}: {method} has no {option}; omit --{option}")
    chosen: list[Sequence[float | None]] = [
        densities or grid.densities or (None,),
        scales or grid.scales or (None,),
    ]
    return [Coefficients(*values) for values in product(*map(dict.fromkeys, chosen))]


class Candidate(NamedTuple):
    """The validation scores of one merged encoder.

    Attributes:
        coefficients: Its coefficients.
        score: The score of all tasks.
        tasks: The score of each task.
    """

    coefficients: Coefficients
    score: float
    tasks: dict[str, float]


def pareto_optimal(scores: Sequence[Sequence[float]]) -> list[bool]:
    """Which candidates no other is better than: at least as good on all tasks, better on one.

    Args:
        scores: The scores of each candidate, one for each task.
    """
    return [
        not any(
            other != own and all(a >= b for a, b in zip(other, own, strict=True))
            for other in scores
        )
        for own in scores
    ]
