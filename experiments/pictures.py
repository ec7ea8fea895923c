"""Pictures of a table's results."""

import statistics
from pathlib import Path
from typing import Any

from experiments.results import Results
from experiments.table import MEAN


def _pictured(results: Results) -> list[str]:
    """The rows that a picture has room for: where rows are crossed, of the last set only its first part with all others."""
    if not (crossed := results.plan.table.crossed):
        return results.rows
    *_, last = crossed.values()
    others = set(list(last)[1:])
    return [row for row in results.rows if row.rpartition(", ")[2] not in others]


def draw_map(results: Results, path: Path) -> Path | None:
    """Where rows are crossed, the mean difference of each pair from the baseline, as a map."""
    if not results.plan.table.crossed:
        return None
    across, down = (list(parts) for parts in results.plan.table.crossed.values())
    found = [[results.against.get((f"{one}, {row}", MEAN)) for one in across] for row in down]
    kept = [(row, line) for row, line in zip(down, found, strict=True) if any(line)]
    if not kept:
        return None
    figure = _figure(width=2.4 + 0.9 * len(across), height=1.6 + 0.45 * len(kept))
    values = [[against.seeds.mean if against else None for against in line] for _, line in kept]
    _draw_numbers(figure.subplots(), values, [row for row, _ in kept], across)
    figure.suptitle(f"mean over tasks - {results.plan.table.baseline}", fontsize=10)
    figure.savefig(path, dpi=150)
    return path


def draw_changes(results: Results, path: Path) -> Path | None:
    """For each row bars of its difference from the baseline in each task, with the 95 % interval over seeds."""
    rows = [
        row
        for row in _pictured(results)
        if any((row, column) in results.against for column in results.columns)
    ]
    if not rows:
        return None
    columns = [*results.columns, MEAN]
    figure = _figure(width=min(30.0, max(6.0, 0.32 * len(rows) * len(columns) + 2)), height=4)
    axes = figure.subplots()
    width = 0.8 / len(rows)
    for place, row in enumerate(rows):
        found = [results.against.get((row, column)) for column in columns]
        known = [(at, against.seeds) for at, against in enumerate(found) if against]
        spread = [
            difference.high - difference.mean for _, difference in known
        ]  # NaN, no bar, where nobody knows
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
    low, high = axes.get_ylim()
    axes.set_ylim(
        max(low, -100), min(high, 100)
    )  # two seeds' intervals may be wider than scores can be
    axes.set_xticks(range(len(columns)), columns, rotation=20, ha="right")
    others = {results.other(row) for row in rows}
    axes.set_ylabel(
        f"score - {others.pop()}" if len(others) == 1 else "score - that of the row compared with"
    )
    axes.spines[["top", "right"]].set_visible(False)
    room = (figure.get_figwidth() - 1) / (
        0.5 + 0.07 * max(map(len, rows))
    )  # inches; a letter of this size is some 0.07 wide
    axes.legend(
        frameon=False,
        fontsize=8,
        ncols=max(1, min(len(rows), int(room))),
        loc="lower left",
        bbox_to_anchor=(0, 1),
    )
    figure.savefig(path, dpi=150)
    return path


def draw_curves(results: Results, path: Path) -> Path | None:
    """For each row of the whole suite the validation score against the step, the mean over seeds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    figure = _figure(width=7, height=4)
    axes, drawn = figure.subplots(), False
    for row in _pictured(results):
        runs = [run for run in results.folders if run.row == row and run.task is None]
        curves: dict[int, list[float]] = {}
        for run in runs:
            events = EventAccumulator(str(results.folders[run]), size_guidance={"scalars": 0})
            events.Reload()
            if "score/mean" in events.Tags()["scalars"]:
                # A run that went on after a kill has some steps twice.
                for step, value in {
                    point.step: point.value for point in events.Scalars("score/mean")
                }.items():
                    curves.setdefault(step, []).append(100 * value)
        if curves:
            steps = sorted(curves)
            axes.plot(
                steps,
                [statistics.fmean(curves[step]) for step in steps],
                marker="o",
                markersize=3,
                label=row,
            )
            drawn = True
    if not drawn:
        return None
    axes.set(xlabel="step", ylabel="validation score")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    return path


def draw_maps(
    tasks: list[str],
    gains: list[list[float | None]],
    cosines: list[list[float | None]],
    agreement: float,
    path: Path,
) -> None:
    """Two maps side by side: what each task (line) gains from another (column), and the cosines between gradients."""
    figure = _figure(width=2.4 + 1.5 * len(tasks), height=1.6 + 0.7 * len(tasks))
    titles = (
        "gain from joint training",
        f"cosine of gradients (rank correlation {agreement:+.2f})",
    )
    for axes, title, values in zip(figure.subplots(1, 2), titles, (gains, cosines), strict=True):
        _draw_numbers(axes, values, tasks, tasks)
        axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=150)


def _draw_numbers(
    axes: Any, values: list[list[float | None]], down: list[str], across: list[str]
) -> None:
    """Numbers on colours, red below 0 and blue above."""
    import numpy as np

    table = np.array(values, dtype=float)
    limit = max(float(np.nanmax(np.abs(table))), 1e-6)
    axes.imshow(table, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        if value == value:
            dark = abs(value) > 0.6 * limit
            axes.text(
                column,
                row,
                f"{value:+.2g}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "black",
            )
    axes.set_xticks(range(len(across)), across, rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(len(down)), down, fontsize=8)


def draw_shares(results: Results, path: Path) -> Path | None:
    """For each row of the whole suite which share of the rows drawn so far was each task's, against the step; the first seed."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    chosen = {
        run.row: folder
        for run, folder in sorted(results.folders.items(), key=lambda item: -item[0].seed)
        if run.task is None
    }
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in _pictured(results):
        if row not in chosen:
            continue
        events = EventAccumulator(str(chosen[row]), size_guidance={"scalars": 0})
        events.Reload()
        names = [name for name in events.Tags()["scalars"] if name.startswith("sampling/")]
        counts = {
            name: {point.step: point.value for point in events.Scalars(name)} for name in names
        }
        steps = sorted({step for points in counts.values() for step in points})
        totals = {step: sum(points.get(step, 0.0) for points in counts.values()) for step in steps}
        if steps:
            curves[row] = {
                name.partition("/")[2]: [
                    (step, points.get(step, 0.0) / totals[step]) for step in steps if totals[step]
                ]
                for name, points in counts.items()
            }
    if not curves:
        return None
    columns = min(3, len(curves))
    lines = -(-len(curves) // columns)
    figure = _figure(width=3.4 * columns + 1, height=2.3 * lines + 0.6)
    every = figure.subplots(lines, columns, squeeze=False, sharey=True).flat
    for axes, (row, shares) in zip(every, curves.items(), strict=False):
        for task, points in sorted(shares.items()):
            axes.plot(
                [step for step, _ in points],
                [share for _, share in points],
                label=task,
                marker=".",
                alpha=0.7,
            )
        axes.set_ylim(0, 1)
        axes.set_title(row, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(figure.axes)[len(curves) :]:
        axes.set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=7)
    figure.supxlabel("step", fontsize=9)
    figure.supylabel("share of the rows drawn so far", fontsize=9)
    figure.savefig(path, dpi=150)
    return path


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
