"""The rows of a table against the front of fixed loss weights: a grid and a picture."""

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mtl.compare.estimate import RowScores
from mtl.compare.events import read_scalars
from mtl.compare.figures import new_figure
from mtl.compare.formatting import interval
from mtl.compare.front import front_distance, yardstick
from mtl.compare.rendering import Cell, Grid
from mtl.compare.results import Results

# The training loss of a run is the mean over the last steps of it: this share of those logged.
LAST_SHARE = 0.2
# Scores by row, one entry for each task.
ByRow = dict[str, list[RowScores]]
NOTES = (
    "distance: min over weightings of max over tasks of the difference, in points, with a "
    "simultaneous 95 % interval over seeds and test examples; beyond: in some task better than "
    "each weighting; behind: one weighting is better in every task; on: behind by less than the "
    "margin at most (docs/decision.md)",
    "the same of training losses, in percent of the loss (mean over the last fifth of the steps)",
    "weightings as far out: how many weightings are as far from the other weightings; where many "
    "are, the weightings have gaps and a positive distance says little",
)


def front_grid(results: Results) -> Grid:
    """Each row's distance from the front, in scores and in training losses; empty without front."""
    scores, losses = _scores(results), _losses(results)
    lines = []
    margin = results.plan.experiment.margin
    front = _front(results, scores)
    others = yardstick(front) if len(front) > 1 else {}
    rows = [row for row in results.rows if row in scores and row not in front] if others else []
    for row in rows:
        found = front_distance(
            scores[row], front, comparisons=len(rows), paired=results.plan.experiment.paired
        )
        farther = sum(each >= found.distance for each in others.values())
        lines.append(
            [
                row,
                interval(found.distance, found.low, found.high),
                found.position(margin),
                f"{farther} of {len(others)}",
                found.nearest,
                *_loss_texts(row, results, losses, len(rows), margin),
            ]
        )
    about = [*NOTES]
    if others:
        about.append(
            f"{len(others)} weightings; the distance of each from the others: "
            f"{min(others.values()):+.1f} to {max(others.values()):+.1f}, median "
            f"{statistics.median(others.values()):+.1f}"
        )
    head = ["", "distance [95 %]", "position", "weightings as far out", "nearest weighting"]
    head += ["distance of training losses [95 %]", "position"]
    return Grid(
        "distance from the front of fixed weights",
        head,
        [[Cell(text) for text in line] for line in lines],
        about,
    )


def _loss_texts(
    row: str, results: Results, losses: ByRow, comparisons: int, margin: float
) -> tuple[str, str]:
    front = _front(results, losses)
    if row not in losses or not front:
        return "", ""
    paired = results.plan.experiment.paired
    found = front_distance(losses[row], front, comparisons=comparisons, paired=paired)
    return interval(found.distance, found.low, found.high), found.position(margin)


def _front(results: Results, by_row: ByRow) -> ByRow:
    """The weightings that have scores, with the row of equal weights."""
    if not (front := results.plan.experiment.front):
        return {}
    return {name: by_row[name] for name in (front.row, *results.plan.weightings) if name in by_row}


def _scores(results: Results) -> ByRow:
    """The scores in each task of the rows that have two seeds of each."""
    if not results.plan.experiment.front:
        return {}
    found = {
        row: [results.sampled(row, column) for column in results.main_columns]
        for row in (*results.rows, *results.plan.weightings)
    }
    return {row: tasks for row, tasks in found.items() if min(each.seeds for each in tasks) > 1}


def _losses(results: Results) -> ByRow:
    """The training losses as scores: -100 ln(loss), whose differences are percent of the loss."""
    by_row: dict[str, list[list[float]]] = {}
    for run, folder in results.folders.items() if results.plan.experiment.front else ():
        ends = _last_losses(folder, list(results.plan.experiment.main_columns))
        if run.task is None and ends:
            by_row.setdefault(run.row, []).append([-100 * math.log(loss) for loss in ends])
    return {
        row: [RowScores(row, scores) for scores in np.array(seeds).T]
        for row, seeds in by_row.items()
        if len(seeds) > 1
    }


def _last_losses(folder: Path, tasks: Sequence[str]) -> list[float]:
    """The mean training loss of each task at the end of a run; empty if one was not logged."""
    logged = {tag: dict(points) for tag, points in read_scalars(folder, "loss/").items()}
    curves = [list(logged.get(f"loss/{task}", {}).values()) for task in tasks]
    if not all(curves):
        return []
    ends = [curve[-math.ceil(LAST_SHARE * len(curve)) :] for curve in curves]
    return [max(statistics.fmean(end), 1e-9) for end in ends]


def draw_front(results: Results, path: Path) -> Path | None:
    """Draws the means of all rows and weightings, one panel for each pair of tasks.

    None without a front.
    """
    scores = _scores(results)
    front = _front(results, scores)
    if len(front) < 2:
        return None
    columns = results.main_columns
    pairs = list(combinations(range(len(columns)), 2))
    across = min(3, len(pairs))
    down = -(-len(pairs) // across)
    figure = new_figure(width=4 * across, height=3.8 * down)
    every = list(figure.subplots(down, across, squeeze=False).flat)
    means = {row: [float(each.scores.mean()) for each in tasks] for row, tasks in scores.items()}
    for axes, (one, other) in zip(every, pairs, strict=False):
        _draw_pair(axes, means, front, one, other)
        axes.set(xlabel=columns[one], ylabel=columns[other])
        axes.spines[["top", "right"]].set_visible(False)
    for axes in every[len(pairs) :]:
        axes.set_visible(False)
    every[0].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=150)
    return path


def _draw_pair(
    axes: Any, means: Mapping[str, Sequence[float]], front: ByRow, one: int, other: int
) -> None:
    families = {"weighted mean": [], "largest weighted loss": []}  # type: dict[str, list[str]]
    for name in front:
        family = "largest weighted loss" if name.startswith("largest") else "weighted mean"
        families[family].append(name)
    for (family, names), marker in zip(families.items(), "os", strict=True):
        points = [(means[name][one], means[name][other]) for name in names]
        if points:
            axes.plot(*zip(*points, strict=True), marker, color="#9aa5b1", label=family)
    for row, scores in means.items():
        if row not in front:
            axes.plot(scores[one], scores[other], "^", color="#2a6f97", markersize=5)
            at = (scores[one], scores[other])
            axes.annotate(row, at, fontsize=6, xytext=(3, 3), textcoords="offset points")
