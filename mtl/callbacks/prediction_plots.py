"""A model's answers as a picture: a confusion matrix, or predictions against targets."""

from typing import Any

import numpy as np
import torch

from mtl.methods.base import Predictions
from mtl.metrics import task_metrics

# Up to how many classes a cell has room for its numbers, and an axis for the classes' names.
NUMBERED, NAMED = 12, 40


def prediction_figure(name: str, rows: Predictions) -> Any:
    """A figure of a split's rows that have labels.

    Args:
        name: The split's name in results.
        rows: The rows and the model's answers.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure  # slow to import, and not every run draws

    known = rows.labels == rows.labels if rows.task.regression else rows.labels >= 0
    labels, outputs = rows.labels[known], rows.outputs[known]
    scores = "  ".join(
        f"{metric} {value:.3f}"
        for metric, value in task_metrics(rows.task, outputs, labels).items()
    )
    side = 4.4 if rows.task.regression else min(12.0, 2.6 + 0.6 * len(rows.task.classes))
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    axes.set_title(f"{name}, {len(labels):,} rows\n{scores}", fontsize=9)
    if rows.task.regression:
        _against(axes, labels.numpy(), outputs[:, 0].float().numpy())
    else:
        _confused(figure, axes, confusion(labels, outputs), rows.task.classes)
    return figure


def confusion(labels: torch.Tensor, outputs: torch.Tensor) -> np.ndarray:
    """How many rows of each class (line) were given each class (column).

    Args:
        labels: Class numbers, shape (rows,).
        outputs: Class probabilities, shape (rows, classes).
    """
    classes = outputs.shape[1]
    return (
        torch.bincount(labels * classes + outputs.argmax(1), minlength=classes**2)
        .view(classes, classes)
        .numpy()
    )


def _confused(figure: Any, axes: Any, counts: np.ndarray, classes: list[str]) -> None:
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= NUMBERED:
        for (line, column), count in np.ndenumerate(counts):
            share = shares[line, column]
            colour = "white" if share > 0.55 else "black"
            axes.text(
                column,
                line,
                f"{share:.0%}\n{count:,}",
                ha="center",
                va="center",
                fontsize=8,
                color=colour,
            )
    if len(classes) <= NAMED:
        short = [name if len(name) <= 20 else f"{name[:19]}…" for name in classes]
        axes.set_xticks(range(len(classes)), short, rotation=30, ha="right", fontsize=8)
        axes.set_yticks(range(len(classes)), short, fontsize=8)
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the label's rows")


def _against(axes: Any, targets: np.ndarray, predictions: np.ndarray) -> None:
    both = np.concatenate([targets, predictions])
    ends = [both.min(initial=np.inf), both.max(initial=-np.inf)] if len(both) else [0, 1]
    axes.plot(ends, ends, color="grey", linewidth=1, linestyle="--")
    axes.scatter(
        targets,
        predictions,
        s=14,
        alpha=0.5 if len(targets) < 1000 else 0.15,
        linewidths=0,
        color="#2a6f97",
    )
    axes.set_xlabel("target")
    axes.set_ylabel("prediction")
    axes.grid(alpha=0.3)
