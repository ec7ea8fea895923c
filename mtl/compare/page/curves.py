"""Learning curves of all rows and seeds, from the scalars that the runs logged."""

from collections.abc import Sequence

import numpy as np

from mtl.compare.events import read_scalars
from mtl.compare.page.data import Curve
from mtl.compare.results import Results

# The steps and scores of a run, in the order of the steps.
Points = list[tuple[int, float]]


def learning_curves(results: Results) -> list[Curve]:
    """The validation score of every row and seed during training, in points.

    Rows whose runs logged no validation score have no curve.
    """
    runs: dict[tuple[str, int], list[Points]] = {}
    for run, folder in results.folders.items():
        if run.row in results.rows:
            # As a mapping: a resumed run has some steps twice.
            logged = dict(read_scalars(folder, "score/mean").get("score/mean", []))
            runs.setdefault((run.row, run.seed), []).append(sorted(logged.items()))
    return [
        Curve(results.rows.index(row), seed, [(step, 100 * value) for step, value in points])
        for (row, seed), curves in runs.items()
        if len(curves) == len(results.plan.row_tasks(row)) and (points := mean_curve(curves))
    ]


def mean_curve(curves: Sequence[Points]) -> list[tuple[float, float]]:
    """The mean of the curves of a seed's runs; of one run its own curve.

    Runs of single tasks differ in length. They are averaged at equal shares of their training, and
    their steps are added up. Between two points a curve is interpolated.

    Args:
        curves: The curve of each run.
    """
    if not all(curves):
        return []
    total = sum(points[-1][0] for points in curves)
    shares = [np.array([step / points[-1][0] for step, _ in points]) for points in curves]
    start = max(float(known[0]) for known in shares)
    at = np.unique(np.concatenate(shares).round(9))
    at = at[at >= start - 1e-9]
    values = [
        np.interp(at, known, [value for _, value in points])
        for known, points in zip(shares, curves, strict=True)
    ]
    return list(zip((at * total).tolist(), np.mean(values, axis=0).tolist(), strict=True))
