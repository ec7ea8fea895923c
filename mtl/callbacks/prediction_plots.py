"""Plots predictions: a confusion matrix, predictions over targets, or F1 per class."""

from collections.abc import Callable
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
import torch

from mtl.metrics import task_metrics
from mtl.predictions import Predictions
from mtl.tasks.multi_label import THRESHOLD

# The largest number of classes for which cells show numbers, and for which axes show class names.
MAX_CLASSES_WITH_NUMBERS, MAX_CLASSES_WITH_NAMES = 12, 40
TITLE_CHARACTERS_PER_INCH = 12


def prediction_figure(name: str, predictions: Predictions) -> Any:
    """Plots the predictions for the labelled examples of a split.

    Args:
        name: The split's name in results.
        predictions: The predictions.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure  # slow to import, and not every run plots

    labelled = predictions.labelled()
    task = labelled.task
    metrics = task_metrics(task, labelled.outputs, labelled.labels)
    plot = PLOTS[task.kind.plot]
    side = plot.side(task.kind.output_size)
    # A metric and its value, joined by a no-break space, are on one line.
    words = " ".join(f"{metric}\u00a0{value:.3f}" for metric, value in metrics.items())
    scores = fill(words, max(20, int(TITLE_CHARACTERS_PER_INCH * side)))
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    axes.set_title(f"{name}, {len(labelled.labels):,} examples\n{scores}", fontsize=9)
    plot.draw(figure, axes, labelled)
    return figure


def confusion(labels: torch.Tensor, outputs: torch.Tensor) -> np.ndarray:
    """Counts the examples of each class (row) that were predicted as each class (column).

    Args:
        labels: Class indices, shape (examples,).
        outputs: Class probabilities, shape (examples, classes).
    """
    classes = outputs.shape[1]
    pairs = labels * classes + outputs.argmax(1)
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes).numpy()


def _draw_confusion(figure: Any, axes: Any, predictions: Predictions) -> None:
    classes = predictions.task.kind.output_names
    known = predictions.labels >= 0  # of examples, or of words
    counts = confusion(predictions.labels[known], predictions.outputs[known])
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= MAX_CLASSES_WITH_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            share = shares[row, column]
            axes.text(
                column,
                row,
                f"{share:.0%}\n{count:,}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if share > 0.55 else "black",
            )
    if len(classes) <= MAX_CLASSES_WITH_NAMES:
        names = [name if len(name) <= 20 else f"{name[:19]}…" for name in classes]
        axes.set_xticks(range(len(classes)), names, rotation=30, ha="right", fontsize=8)
        axes.set_yticks(range(len(classes)), names, fontsize=8)
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the label's examples")


def _draw_scatter(figure: Any, axes: Any, predictions: Predictions) -> None:
    targets, values = predictions.labels.numpy(), predictions.outputs[:, 0].float().numpy()
    both = np.concatenate([targets, values])
    ends = [both.min(initial=np.inf), both.max(initial=-np.inf)] if len(both) else [0, 1]
    axes.plot(ends, ends, color="grey", linewidth=1, linestyle="--")
    axes.scatter(
        targets,
        values,
        s=14,
        alpha=0.5 if len(targets) < 1000 else 0.15,
        linewidths=0,
        color="#2a6f97",
    )
    axes.set_xlabel("target")
    axes.set_ylabel("prediction")
    axes.grid(alpha=0.3)


def _draw_class_f1(figure: Any, axes: Any, predictions: Predictions) -> None:
    """F1 of each class, and its number of examples."""
    true, predicted = predictions.labels > 0, predictions.outputs >= THRESHOLD
    counts = true.sum(0)
    scores = 2 * (true & predicted).sum(0) / (counts + predicted.sum(0)).clamp(min=1)
    names = [
        f"{name if len(name) <= 20 else f'{name[:19]}…'} ({count:,})"
        for name, count in zip(predictions.task.classes, counts.tolist(), strict=True)
    ]
    axes.barh(range(len(names)), scores.numpy(), color="#2a6f97")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("F1 of the class (examples)")
    axes.grid(alpha=0.3, axis="x")


class Plot(NamedTuple):
    """How the predictions of a kind of task are plotted.

    Attributes:
        side: Height of the figure in inches, from the number of outputs.
        draw: Draws the predictions for labelled examples on a figure's axes.
    """

    side: Callable[[int], float]
    draw: Callable[[Any, Any, Predictions], None]


PLOTS = {
    "confusion": Plot(lambda classes: min(12.0, 2.6 + 0.6 * classes), _draw_confusion),
    "scatter": Plot(lambda _: 4.4, _draw_scatter),
    "class_f1": Plot(lambda classes: min(12.0, 2.6 + 0.25 * classes), _draw_class_f1),
}
"""Plots by `TaskKind.plot`."""
