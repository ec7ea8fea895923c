"""The fixed loss weights of a front: draws from the simplex, and the row of each."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.stats import qmc

from mtl.compare.definition_parts import Front, Variant

# Weights are rounded to this number of decimals: a row's name and its training then agree.
DECIMALS = 2


def simplex_draws(tasks: int, draws: int) -> npt.NDArray[np.floating]:
    """Weights that cover the simplex evenly, shape (draws, tasks); each line sums to 1.

    The spacings of sorted uniform numbers are uniform on the simplex; here the numbers are a
    scrambled Sobol sequence, the same in every call.

    Args:
        tasks: Number of tasks, at least 2.
        draws: Number of weightings.
    """
    sequence = qmc.Sobol(d=tasks - 1, rng=np.random.default_rng(0))
    points = sequence.random_base2((draws - 1).bit_length())[:draws]
    edges = np.pad(np.sort(np.round(points, DECIMALS)), ((0, 0), (1, 1)), constant_values=(0, 1))
    return np.round(np.diff(edges), DECIMALS)


def front_rows(front: Front, rows: dict[str, Variant], tasks: Sequence[str]) -> dict[str, Variant]:
    """A hidden row for each weighting, by its name, such as `weighted mean 0.20 0.50 0.30`.

    Equal weights with a weighted mean are the front's own row.

    Args:
        front: The front.
        rows: The rows of the table.
        tasks: The tasks, in the order of the weights.
    """
    return {
        f"{family} {' '.join(f'{weight:.{DECIMALS}f}' for weight in weights)}": replace(
            rows[front.row],
            options=rows[front.row].options | {"model.balancer": _balancer(name, tasks, weights)},
            search={},
            shown=False,
            against=None,
        )
        for family, name, weights in _weightings(front.draws, len(tasks))
    }


def _weightings(draws: int, tasks: int) -> Iterator[tuple[str, str, Sequence[float]]]:
    """Family, balancer and weights. On one task alone both families are the same."""
    drawn = simplex_draws(tasks, draws).tolist() if draws and tasks > 1 else []
    for weights in (*np.eye(tasks).tolist(), *drawn):
        yield "weighted mean", "Fixed", weights
    for weights in ([1 / tasks] * tasks, *drawn):
        yield "largest weighted loss", "Chebyshev", weights


def _balancer(name: str, tasks: Sequence[str], weights: Sequence[float]) -> dict[str, object]:
    """The balancer's option; the weights' mean is 1, as that of equal weights."""
    scaled = {
        task: round(weight * len(tasks), 6) for task, weight in zip(tasks, weights, strict=True)
    }
    return {"class_path": name, "init_args": {"weights": scaled}}
