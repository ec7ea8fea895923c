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


def plot_scores(path: Path, scores: Mapping[str, TaskScores]) -> None:
    """Writes a figure with a histogram of the scores, and the scores against the lengths in tokens.

    Args:
        path: The file.
        scores: The scores by task.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    histogram, scatter = figure.subplots(1, 2)
    histogram.hist(
        [task_scores.scores for task_scores in scores.values()],
        bins=30,
        stacked=True,
        label=list(scores),
    )
    histogram.set(xlabel="prototypical score", ylabel="examples")
    histogram.legend()
    generator = np.random.default_rng(0)
    for name, task_scores in scores.items():
        sample = generator.permutation(len(task_scores.scores))[:MAX_POINTS]
        scatter.scatter(
            task_scores.tokens[sample], task_scores.scores[sample], s=6, alpha=0.5, label=name
        )
    scatter.set(xlabel="tokens", ylabel="prototypical score")
    figure.savefig(path, dpi=150)


def print_scores(title: str, scores: Mapping[str, TaskScores], tasks: Sequence[Task]) -> None:
    """Prints a table of the scores by class, and their rank correlation with the lengths.

    Args:
        title: Title of the table.
        scores: The scores by task.
        tasks: The tasks.
    """
    table = Table(title=title, title_justify="left")
    for column in ("domain", "class", "examples", "mean", "std", "min", "max", "with length"):
        table.add_column(column, justify="left" if column in ("domain", "class") else "right")
    for task in tasks:
        task_scores = scores[task.name]
        for index, name in enumerate(task.classes):
            in_class = task_scores.classes == index
            if in_class.any():
                cells = _class_statistics(
                    task_scores.scores[in_class], task_scores.tokens[in_class]
                )
                table.add_row(task.name, name, *cells)
    console = Console()
    console.print(table)
    all_scores, lengths = scores_and_lengths(scores)
    console.print(
        f"{len(all_scores):,} examples; rank correlation of scores and lengths "
        f"{rank_correlation(all_scores, lengths):+.2f}"
    )


def _class_statistics(scores: np.ndarray, tokens: np.ndarray) -> list[str]:
    values = [scores.mean(), scores.std(), scores.min(), scores.max()]
    correlation = rank_correlation(torch.from_numpy(scores), torch.from_numpy(tokens))
    return [f"{len(scores):,}", *(f"{value:.4f}" for value in values), f"{correlation:+.2f}"]
