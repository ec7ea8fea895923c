"""Pictures of training: learning curves, and the share of each task among the examples drawn."""

import statistics
from pathlib import Path

from mtl.compare.events import read_scalars
from mtl.compare.figures import new_figure
from mtl.compare.pictures import rows_to_draw
from mtl.compare.results import Results

Shares = dict[str, list[tuple[int, float]]]


def draw_learning_curves(results: Results, path: Path) -> Path | None:
    """Draws the validation score against the step, the mean over seeds.

    For each row that trains all tasks in one run.
    """
    figure = new_figure(width=7, height=4)
    axes, drawn = figure.subplots(), False
    for row in rows_to_draw(results):
        curve: dict[int, list[float]] = {}
        for run, folder in results.folders.items():
            if run.row == row and run.task is None:
                # As a mapping: a resumed run has some steps twice.
                for step, value in dict(
                    read_scalars(folder, "score/mean").get("score/mean", [])
                ).items():
                    curve.setdefault(step, []).append(100 * value)
        if curve:
            steps = sorted(curve)
            means = [statistics.fmean(curve[step]) for step in steps]
            axes.plot(steps, means, marker="o", markersize=3, label=row)
            drawn = True
    if not drawn:
        return None
    axes.set(xlabel="step", ylabel="validation score")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    return path


def draw_task_shares(results: Results, path: Path) -> Path | None:
    """Draws each task's share of the examples drawn so far against the step.

    For each row that trains all tasks in one run.

    Of each row the first seed is drawn.
    """
    by_seed = sorted(results.folders.items(), key=lambda item: -item[0].seed)
    folders = {run.row: folder for run, folder in by_seed if run.task is None}
    rows = [row for row in rows_to_draw(results) if row in folders]
    by_row = {row: shares for row in rows if (shares := _shares(folders[row]))}
    if not by_row:
        return None
    columns = min(3, len(by_row))
    lines = -(-len(by_row) // columns)
    figure = new_figure(width=3.4 * columns + 1, height=2.3 * lines + 0.6)
    every = list(figure.subplots(lines, columns, squeeze=False, sharey=True).flat)
    for axes, (row, shares) in zip(every, by_row.items(), strict=False):
        for task, points in sorted(shares.items()):
            steps, values = zip(*points, strict=True) if points else ((), ())
            axes.plot(steps, values, label=task, marker=".", alpha=0.7)
        axes.set_ylim(0, 1)
        axes.set_title(row, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in every[len(by_row) :]:
        axes.set_visible(False)
    every[0].legend(frameon=False, fontsize=7)
    figure.supxlabel("step", fontsize=9)
    figure.supylabel("share of the examples drawn so far", fontsize=9)
    figure.savefig(path, dpi=150)
    return path


def _shares(folder: Path) -> Shares:
    """For each task the share of the examples drawn so far at each step.

    Empty if the run did not log them.
    """
    counts = {tag: dict(points) for tag, points in read_scalars(folder, "sampling/").items()}
    steps = sorted({step for points in counts.values() for step in points})
    totals = {step: sum(points.get(step, 0.0) for points in counts.values()) for step in steps}
    if not steps:
        return {}
    return {
        tag.partition("/")[2]: [
            (step, points.get(step, 0.0) / totals[step]) for step in steps if totals[step]
        ]
        for tag, points in counts.items()
    }
