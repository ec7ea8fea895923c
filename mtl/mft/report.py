"""Show prototypical scores: a histogram and a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mtl.mft.prototypes import rank_correlation
from mtl.mft.score_files import TaskScores
from mtl.mft.scoring import scores_and_lengths
from mtl.tasks import Task

# Number of points per task in the scatter plot.
MAX_POINTS = 2000


def plot_scores(path: Path, task_scores: Mapping[str, TaskScores]) -> None:
    """Writes a figure with a histogram of the scores, and the scores against the lengths in tokens.

    Args:
        path: The file.
        task_scores: The scores by task.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    histogram, scatter = figure.subplots(1, 2)
    histogram.hist(
        [part.scores for part in task_scores.values()],
        bins=30,
        stacked=True,
        label=list(task_scores),
    )
    histogram.set(xlabel="prototypical score", ylabel="examples")
    histogram.legend()
    generator = np.random.default_rng(0)
    for name, part in task_scores.items():
        sample = generator.permutation(len(part.scores))[:MAX_POINTS]
        scatter.scatter(part.tokens[sample], part.scores[sample], s=6, alpha=0.5, label=name)
    scatter.set(xlabel="tokens", ylabel="prototypical score")
    figure.savefig(path, dpi=150)


def print_scores(title: str, task_scores: Mapping[str, TaskScores], tasks: Sequence[Task]) -> None:
    """Prints a table of the scores by class, and their rank correlation with the lengths.

    Args:
        title: Title of the table.
        task_scores: The scores by task.
        tasks: The tasks.
    """
    table = Table(title=title, title_justify="left")
    for column in ("domain", "class", "examples", "mean", "std", "min", "max", "with length"):
        table.add_column(column, justify="left" if column in ("domain", "class") else "right")
    for task in tasks:
        for index, name in enumerate(task.classes):
            in_class = task_scores[task.name].classes == index
            if in_class.any():
                part = task_scores[task.name]
                cells = _class_statistics(part.scores[in_class], part.tokens[in_class])
                table.add_row(task.name, name, *cells)
    console = Console()
    console.print(table)
    scores, lengths = scores_and_lengths(task_scores)
    console.print(
        f"{len(scores):,} examples; rank correlation of scores and lengths "
        f"{rank_correlation(scores, lengths):+.2f}"
    )


def _class_statistics(scores: np.ndarray, tokens: np.ndarray) -> list[str]:
    values = [scores.mean(), scores.std(), scores.min(), scores.max()]
    correlation = rank_correlation(torch.from_numpy(scores), torch.from_numpy(tokens))
    return [f"{len(scores):,}", *(f"{value:.4f}" for value in values), f"{correlation:+.2f}"]
