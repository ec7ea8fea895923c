"""Pictures of a table's results."""

import statistics
from pathlib import Path
from typing import Any

from experiments.results import MEAN, Results

GREY = "#9aa5b1"


def draw_changes(results: Results, path: Path) -> Path | None:
    """For each row bars of its difference from the baseline in each task, with the 95 % interval over seeds."""
    rows = [row for row in results.rows if any((row, column) in results.against for column in results.columns)]
    if not rows:
        return None
    columns = [*results.columns, MEAN]
    figure = _figure(width=max(6.0, 0.32 * len(rows) * len(columns) + 2), height=4)
    axes = figure.subplots()
    width = 0.8 / len(rows)
    for place, row in enumerate(rows):
        found = [results.against.get((row, column)) for column in columns]
        known = [(at, against.seeds) for at, against in enumerate(found) if against]
        spread = [0.0 if difference.high != difference.high else difference.high - difference.mean for _, difference in known]
        axes.bar(
            [at + (place - (len(rows) - 1) / 2) * width for at, _ in known],
            [difference.mean for _, difference in known],
            width,
            yerr=spread,
            capsize=2,
            label=row,
            ecolor="#555555",
        )
    axes.axhline(0, color="#222222", linewidth=0.8)
    axes.set_xticks(range(len(columns)), columns, rotation=20, ha="right")
    axes.set_ylabel(f"score - {results.plan.table.baseline}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncols=min(4, len(rows)), loc="lower left", bbox_to_anchor=(0, 1))
    figure.savefig(path, dpi=150)
    return path


def draw_curves(results: Results, path: Path) -> Path | None:
    """For each row of the whole suite the validation score against the step, the mean over seeds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    figure = _figure(width=7, height=4)
    axes, drawn = figure.subplots(), False
    for row in results.rows:
        runs = [run for run in results.folders if run.row == row and run.task is None]
        curves: dict[int, list[float]] = {}
        for run in runs:
            events = EventAccumulator(str(results.folders[run]), size_guidance={"scalars": 0})
            events.Reload()
            if "score/mean" in events.Tags()["scalars"]:
                for point in events.Scalars("score/mean"):
                    curves.setdefault(point.step, []).append(100 * point.value)
        if curves:
            steps = sorted(curves)
            axes.plot(steps, [statistics.fmean(curves[step]) for step in steps], marker="o", markersize=3, label=row)
            drawn = True
    if not drawn:
        return None
    axes.set(xlabel="step", ylabel="validation score")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    return path


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
