"""The quickstart's report: a table on screen and as Markdown, a picture.

And commands to try next.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table as RichTable

from mtl.compare.figures import new_figure

HEAD = ["task", "test examples", "each alone", "all together", "difference"]


class TaskScores(NamedTuple):
    """A task's test scores, one for each seed.

    Attributes:
        task: The task.
        examples: Number of test examples.
        alone: Scores of the runs that train this task alone.
        together: Scores of the runs that train all tasks.
    """

    task: str
    examples: int
    alone: list[float]
    together: list[float]


class Spread(NamedTuple):
    """Mean and sample standard deviation in hundredths; the deviation of a single value is 0."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, scores: Sequence[float]) -> "Spread":
        """The spread of scores between 0 and 1."""
        hundredths = [100 * score for score in scores]
        deviation = statistics.stdev(hundredths) if len(hundredths) > 1 else 0.0
        return cls(statistics.fmean(hundredths), deviation)

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.deviation:.1f}"


def report(tasks: list[TaskScores], seeds: Sequence[int], out: Path, task_option: str) -> None:
    """Prints the table, writes it as Markdown and as a picture, and prints what to try next.

    Args:
        tasks: The scores of each task.
        seeds: The seeds.
        out: Folder of the runs, for the table and the picture.
        task_option: The option that names the tasks of the example command.
    """
    rows = [*tasks, _mean(tasks)]
    lines = [_line(row) for row in rows]
    console = Console()
    console.print(_screen_table(lines, len(seeds)))
    (out / "table.md").write_text(_markdown(lines, seeds), encoding="utf-8")
    draw_bars(rows, out / "table.png")
    console.print(
        f"[dim]With {len(seeds)} seeds and {rows[-1].examples} test examples, differences of one "
        "or two points are not "
        "meaningful.[/dim]"
    )
    console.print(
        f"Table {out}/table.md, picture {out}/table.png, runs {out}/\n\nTry next:", highlight=False
    )
    predict = f".venv/bin/mtl predict --ckpt_path {out}/together/seed-{seeds[0]}"
    fit = f".venv/bin/mtl fit {task_option} --backbone bert-base-uncased"
    next_commands = {
        "make tensorboard": "losses, scores and speed of every run",
        predict: "predictions of all tasks, one file per task",
        fit: "another encoder, from the Hugging Face Hub",
    }
    for command, purpose in next_commands.items():
        console.print(f"  {command}", f"[dim]# {purpose}[/dim]", highlight=False, soft_wrap=True)


def _mean(tasks: list[TaskScores]) -> TaskScores:
    """The mean over tasks for each seed."""
    alone, together = (
        [statistics.fmean(values) for values in zip(*scores, strict=True)]
        for scores in ([row.alone for row in tasks], [row.together for row in tasks])
    )
    return TaskScores("mean", sum(row.examples for row in tasks), alone, together)


def _line(row: TaskScores) -> list[str]:
    alone, together = Spread.of(row.alone), Spread.of(row.together)
    difference = f"{together.mean - alone.mean:+.1f}"
    return [row.task, str(row.examples), str(alone), str(together), difference]


def _screen_table(lines: list[list[str]], seeds: int) -> RichTable:
    table = RichTable(title=f"test scores, mean ± std over {seeds} seeds", title_justify="left")
    for index, column in enumerate(HEAD):
        table.add_column(column, justify="right" if index else "left")
    for line in lines[:-1]:
        table.add_row(*line)
    table.add_section()
    table.add_row(*lines[-1])
    return table


def _markdown(lines: list[list[str]], seeds: Sequence[int]) -> str:
    rows = "\n".join(f"| {' | '.join(line)} |" for line in [HEAD, ["---"] * len(HEAD), *lines])
    note = f"Test scores (mean of each task's metrics, in hundredths), seeds {list(seeds)}."
    return f"{rows}\n\n{note}\n"


def draw_bars(rows: list[TaskScores], path: Path) -> None:
    """Draws each task's two scores as bars, with their standard deviations.

    The last row is the mean.

    Args:
        rows: The scores of each task, and the mean.
        path: File of the picture.
    """
    figure = new_figure(width=8, height=3.6)
    axes = figure.subplots()
    series = [
        (-0.2, "each task alone", "#9aa5b1", [row.alone for row in rows]),
        (0.2, "all together", "#2a6f97", [row.together for row in rows]),
    ]
    for shift, label, colour, scores in series:
        spreads = [Spread.of(values) for values in scores]
        bars = axes.bar(
            [index + shift for index in range(len(rows))],
            [spread.mean for spread in spreads],
            0.38,
            yerr=[spread.deviation for spread in spreads],
            label=label,
            color=colour,
            capsize=3,
            ecolor="#444444",
        )
        axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=8)
    axes.set_xticks(range(len(rows)), [row.task for row in rows])
    axes.set_ylabel("test score")
    axes.axvline(len(rows) - 1.5, color="#cccccc", linewidth=1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.15)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=2)
    figure.savefig(path, dpi=150)
