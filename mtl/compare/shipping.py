"""Which run of a row to use, and how."""

from collections.abc import Iterator
from pathlib import Path

from mtl.compare.results import Results
from mtl.compare.run_spec import RunSpec


def shipping_lines(results: Results, row: str) -> Iterator[str]:
    """The best run of a row by validation, with the commands that export it and predict with it.

    Of a row with one run per task, the best run of each task.
    """
    best: dict[str | None, tuple[float, RunSpec, Path]] = {}
    for run, folder in results.folders.items():
        score = results.records[run].get("validation", {}).get("mean")
        if run.row == row and score is not None:
            best[run.task] = max(best.get(run.task, (score, run, folder)), (score, run, folder))
    for task, (score, run, folder) in best.items():
        of_task = f", task {task}" if task else ""
        yield (
            f"Run to ship: {row}{of_task}: seed {run.seed}, the best on validation data "
            f"({100 * score:.1f})"
        )
        out = f"exported/{task}" if task else "exported"
        yield f"  mtl export --ckpt_path {folder} --format mtl --out {out}"
        yield f"  mtl predict --ckpt_path {folder} --input texts.csv --output predictions.csv"
