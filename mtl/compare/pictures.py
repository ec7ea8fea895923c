"""Pictures of a table's scores: differences from the baseline, and heat maps."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl.compare.decision import Verdict
from mtl.compare.figures import new_figure
from mtl.compare.results import Results

COLOURS = {
    Verdict.BETTER: "#1b7a3d",
    Verdict.NO_WORSE: "#2a6f97",
    Verdict.WORSE: "#b3261e",
    Verdict.UNDECIDED: "#777777",
    None: "#777777",
}

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
        second: [results.decisions.get(f"{one}, {second}") for one in across] for second in down
    }
    lines = {second: line for second, line in lines.items() if any(line)}
    if not lines:
        return None
    figure = new_figure(width=2.4 + 0.9 * len(across), height=1.6 + 0.45 * len(lines))
    values = [[cell.difference if cell else None for cell in line] for line in lines.values()]
    _draw_heat_map(figure.subplots(), values, list(lines), across)
    figure.suptitle(f"mean over tasks - {results.plan.experiment.baseline}", fontsize=10)
    figure.savefig(path, dpi=150)
    return path


def draw_differences(results: Results, path: Path) -> Path | None:
    """Draws each row's difference from its reference, with the interval that decides.

    A filled marker is a row that is better or worse.
    """
    known = {
        row: decision
        for row, decision in results.decisions.items()
        if row in rows_to_draw(results) and not math.isnan(decision.low)
    }
    if not known:
        return None
    figure = new_figure(width=7, height=1.2 + 0.32 * len(known))
    axes = figure.subplots()
    for at, decision in enumerate(known.values()):
        colour = COLOURS[decision.verdict]
        axes.plot([decision.low, decision.high], [at, at], color=colour, linewidth=2)
        decided = decision.verdict in (Verdict.BETTER, Verdict.WORSE)
        face = colour if decided else "white"
        axes.plot(decision.difference, at, "o", color=colour, markerfacecolor=face)
    axes.axvline(0, color="#222222", linewidth=0.8)
    margin = results.plan.experiment.margin
    axes.axvspan(-margin, 0, color="#dddddd", alpha=0.5, linewidth=0)
    low, high = axes.get_xlim()
    # The intervals of two seeds may be wider than the range of scores.
    axes.set_xlim(max(low, -100), min(high, 100))
    labels = [f"{row}: {decision.verdict}" for row, decision in known.items()]
    axes.set_yticks(range(len(known)), labels, fontsize=8)
    axes.invert_yaxis()
    references = {decision.baseline for decision in known.values()}
    reference = references.pop() if len(references) == 1 else "score of the row compared with"
    axes.set_xlabel(f"score - {reference}; grey: within the margin of {margin:g}")
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, dpi=150)
    return path


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
