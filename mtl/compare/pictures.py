"""Pictures of a table's scores: differences from the baseline, and heat maps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl.compare.definition import MEAN
from mtl.compare.figures import new_figure
from mtl.compare.results import Results

Matrix = Sequence[Sequence[float | None]]


def rows_to_draw(results: Results) -> list[str]:
    """The rows that fit into one picture.

    Of crossed rows those with the first fragment of the last set.
    """
    if not (crossed := results.plan.experiment.crossed):
        return results.rows
    *_, last = crossed.values()
    others = set(list(last)[1:])
    return [row for row in results.rows if row.rpartition(", ")[2] not in others]


def draw_crossed_map(results: Results, path: Path) -> Path | None:
    """Draws the mean difference of each crossed row from the baseline as a heat map.

    None if no rows are crossed.
    """
    if not results.plan.experiment.crossed:
        return None
    across, down = (list(fragments) for fragments in results.plan.experiment.crossed.values())
    lines = {
        second: [results.comparisons.get((f"{one}, {second}", MEAN)) for one in across]
        for second in down
    }
    lines = {second: line for second, line in lines.items() if any(line)}
    if not lines:
        return None
    figure = new_figure(width=2.4 + 0.9 * len(across), height=1.6 + 0.45 * len(lines))
    values = [[cell.seeds.mean if cell else None for cell in line] for line in lines.values()]
    _draw_heat_map(figure.subplots(), values, list(lines), across)
    figure.suptitle(f"mean over tasks - {results.plan.experiment.baseline}", fontsize=10)
    figure.savefig(path, dpi=150)
    return path


def draw_differences(results: Results, path: Path) -> Path | None:
    """Draws each row's difference from its reference in each task.

    With the 95 % interval over seeds.
    """
    rows = [
        row
        for row in rows_to_draw(results)
        if any((row, column) in results.comparisons for column in results.columns)
    ]
    if not rows:
        return None
    columns = [*results.columns, MEAN]
    figure = new_figure(width=min(30.0, max(6.0, 0.32 * len(rows) * len(columns) + 2)), height=4)
    axes = figure.subplots()
    width = 0.8 / len(rows)
    for index, row in enumerate(rows):
        found = [results.comparisons.get((row, column)) for column in columns]
        known = {at: comparison.seeds for at, comparison in enumerate(found) if comparison}
        axes.bar(
            [at + (index - (len(rows) - 1) / 2) * width for at in known],
            [difference.mean for difference in known.values()],
            width,
            # NaN without an interval: no error bar is drawn.
            yerr=[difference.high - difference.mean for difference in known.values()],
            capsize=2,
            label=row,
            ecolor="#555555",
        )
    axes.axhline(0, color="#222222", linewidth=0.8)
    low, high = axes.get_ylim()
    # The intervals of two seeds may be wider than the range of scores.
    axes.set_ylim(max(low, -100), min(high, 100))
    axes.set_xticks(range(len(columns)), columns, rotation=20, ha="right")
    references = {results.reference(row) for row in rows}
    reference = references.pop() if len(references) == 1 else "score of the row compared with"
    axes.set_ylabel(f"score - {reference}")
    axes.spines[["top", "right"]].set_visible(False)
    _legend_above(axes, rows, figure.get_figwidth())
    figure.savefig(path, dpi=150)
    return path


def _legend_above(axes: Any, rows: list[str], width: float) -> None:
    """A legend above the axes with as many columns as fit into a width in inches."""
    # A letter of this size is about 0.07 inches wide.
    fitting = int((width - 1) / (0.5 + 0.07 * max(map(len, rows))))
    axes.legend(
        frameon=False,
        fontsize=8,
        ncols=max(1, min(len(rows), fitting)),
        loc="lower left",
        bbox_to_anchor=(0, 1),
    )


def draw_affinity(
    tasks: list[str], gains: Matrix, cosines: Matrix, agreement: float, path: Path
) -> None:
    """Draws two heat maps: the gain of each task (line) from another (column).

    And the cosines of their gradients.

    Args:
        tasks: Names of the tasks.
        gains: Gains, shape (tasks, tasks); None on the diagonal.
        cosines: Cosines, shape (tasks, tasks); None on the diagonal.
        agreement: The rank correlation of the two.
        path: File of the picture.
    """
    figure = new_figure(width=2.4 + 1.5 * len(tasks), height=1.6 + 0.7 * len(tasks))
    maps = {
        "gain from joint training": gains,
        f"cosine of gradients (rank correlation {agreement:+.2f})": cosines,
    }
    for axes, (title, values) in zip(figure.subplots(1, 2), maps.items(), strict=True):
        _draw_heat_map(axes, values, tasks, tasks)
        axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=150)


def _draw_heat_map(axes: Any, values: Matrix, down: list[str], across: list[str]) -> None:
    """Draws numbers on colours: red below 0, blue above."""
    matrix = np.array(values, dtype=float)
    limit = max(float(np.nanmax(np.abs(matrix))), 1e-6)
    axes.imshow(matrix, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for (line, column), value in np.ndenumerate(matrix):
        if not np.isnan(value):
            colour = "white" if abs(value) > 0.6 * limit else "black"
            style = {"ha": "center", "va": "center", "fontsize": 8, "color": colour}
            axes.text(column, line, f"{value:+.2g}", **style)
    axes.set_xticks(range(len(across)), across, rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(len(down)), down, fontsize=8)
