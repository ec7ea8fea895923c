"""Plots the validation scores of merged encoders against their coefficients."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mtl.merging.grid import Candidate, pareto_optimal


def coefficients_figure(
    candidates: Sequence[Candidate], chosen: Candidate, singles: Mapping[str, float]
) -> Any:
    """Plots the score of all tasks and of each task against the scale, a line for each density.

    Filled points are Pareto-optimal over the tasks; a star marks the chosen coefficients, a dashed
    line the task's own run.

    Args:
        candidates: The candidates.
        chosen: The one that is used.
        singles: The score of each task's own run.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure  # slow to import

    names = ["all tasks", *singles]
    columns = math.ceil(math.sqrt(len(names)))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.6 * rows + 0.3), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    optimal = pareto_optimal([list(each.tasks.values()) for each in candidates])
    for axis, name in zip(axes, names, strict=False):
        _draw_scores(axis, name, candidates, optimal, chosen)
        if name in singles:
            axis.axhline(singles[name], color="gray", linestyle="--", label="own run")
        axis.set(title=name, xlabel="scale", ylabel="validation score")
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    axes[1].legend(fontsize=7)
    figure.suptitle("filled: Pareto-optimal over the tasks", fontsize=9)
    return figure


def _draw_scores(
    axis: Any,
    name: str,
    candidates: Sequence[Candidate],
    optimal: Sequence[bool],
    chosen: Candidate,
) -> None:
    densities = dict.fromkeys(each.coefficients.density for each in candidates)
    for number, density in enumerate(densities):
        points = [
            (each.coefficients.scale, each.tasks.get(name, each.score), best)
            for each, best in zip(candidates, optimal, strict=True)
            if each.coefficients.density == density
        ]
        points.sort(key=lambda point: point[0] or 0.0)
        scales = [1.0 if scale is None else scale for scale, _, _ in points]
        scores = [score for _, score, _ in points]
        color = f"C{number}"
        label = "merged" if density is None else f"density {density:g}"
        axis.plot(scales, scores, "o-", color=color, markerfacecolor="white", label=label)
        best = [index for index, point in enumerate(points) if point[2]]
        axis.plot([scales[i] for i in best], [scores[i] for i in best], "o", color=color)
    scale = 1.0 if chosen.coefficients.scale is None else chosen.coefficients.scale
    score = chosen.tasks.get(name, chosen.score)
    axis.plot([scale], [score], "*", color="black", markersize=13, label="used", zorder=3)
