"""Plots cosines between the tasks' gradients as heat maps."""

from collections.abc import Mapping
from typing import Any

import torch


def conflict_figure(
    tasks: list[str], cosines: Mapping[str, Mapping[tuple[str, str], list[float]]]
) -> Any:
    """Plots the mean cosine of each pair of tasks, one heat map per group of parameters.

    Args:
        tasks: Names of the tasks, in the order of the plot.
        cosines: For each group of parameters and each pair of tasks, the measured cosines. The
            group `all` must be present.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure  # slow to import, and not every run plots

    measured = [task for task in tasks if any(task in pair for pair in cosines["all"])]
    columns = min(4, len(cosines))
    rows = -(-len(cosines) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.6 * rows + 0.4), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    image: Any = None
    for axis, group in zip(axes, sorted(cosines, key=_position), strict=False):
        image = _draw_heat_map(axis, group, measured, cosines[group])
    for axis in axes[len(cosines) :]:
        axis.set_visible(False)
    figure.colorbar(image, ax=list(figure.axes), shrink=0.8, label="cosine between gradients")
    return figure


def _draw_heat_map(
    axis: Any, group: str, tasks: list[str], cosines: Mapping[tuple[str, str], list[float]]
) -> Any:
    table = torch.full((len(tasks), len(tasks)), float("nan"))
    for (one, two), values in cosines.items():
        mean = sum(values) / len(values)
        for row, column in (
            (tasks.index(one), tasks.index(two)),
            (tasks.index(two), tasks.index(one)),
        ):
            table[row, column] = mean
            axis.text(column, row, f"{mean:.2f}", ha="center", va="center", fontsize=7)
    axis.set_title(group, fontsize=9)
    axis.set_xticks(range(len(tasks)), tasks, rotation=45, ha="right", fontsize=7)
    axis.set_yticks(range(len(tasks)), tasks, fontsize=7)
    return axis.imshow(table.numpy(), cmap="RdBu", vmin=-1, vmax=1)


def _position(group: str) -> tuple[int, int]:
    """Sort key: all parameters first, then from the bottom of the model to its top."""
    sections = {"all": 0, "embeddings": 1, "other": 3}
    return sections.get(group, 2), int(group.split()[1]) if group.startswith("layer ") else 0
