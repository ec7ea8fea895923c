"""Prints scores as a table."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def show_scores(out: Path, title: str, scores: dict[str, Any]) -> None:
    """Prints one line for each split, and the run's score.

    Args:
        out: The run's folder.
        title: What the scores are of, such as `test`.
        scores: The scores as in `metrics.json`.
    """
    table = Table(title=f"{out}: {title}", title_justify="left")
    for column in ("task", "examples", "metrics", "score"):
        table.add_column(column, justify="left" if column in ("task", "metrics") else "right")
    for name, result in scores.get("tasks", {}).items():
        metrics = "  ".join(f"{metric} {value:.4f}" for metric, value in result["metrics"].items())
        if "calibration_error" in result:
            metrics += f"  calibration error {result['calibration_error']:.4f}"
        table.add_row(name, f"{result['examples']:,}", metrics, f"{result['score']:.4f}")
    for splits, accuracy in scores.get("all_correct", {}).items():
        table.add_row(splits, "", f"all correct {accuracy:.4f}", "")
    if scores:
        table.add_section()
        table.add_row(
            "score" if "score" in scores else "mean",
            "",
            scores.get("score", ""),
            f"{scores['mean']:.4f}",
        )
    Console().print(table)
