"""Which run of a row to use, and how."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from mtl.compare.results import Results
from mtl.compare.run_spec import RunSpec
from mtl.tasks import Task


def shipping_lines(results: Results, row: str, for_transformers: bool) -> Iterator[str]:
    """The best run of a row by validation, with the commands that export it and predict with it.

    Of a row with one run per task or group, the best run of each.

    Args:
        results: The results.
        row: The row.
        for_transformers: Whether transformers can load exports of the row.
    """
    best: dict[str | None, tuple[float, RunSpec, Path]] = {}
    for run, folder in results.folders.items():
        score = results.records[run].get("validation", {}).get("mean")
        if run.row == row and score is not None:
            best[run.task] = max(best.get(run.task, (score, run, folder)), (score, run, folder))
    for task, (score, run, folder) in best.items():
        yield (
            f"Run to ship: {row}{f', task {task}' if task else ''}: seed {run.seed}, the best on "
            f"validation data ({100 * score:.1f})"
        )
        run_path = shlex.quote(str(folder))
        if for_transformers:
            for name in run.tasks or results.plan.task_files:
                yield f"  mtl export --ckpt_path {run_path} --task {name} --out exported/{name}"
        else:
            out = f"exported/{task}" if task else "exported"
            yield f"  mtl export --ckpt_path {run_path} --format mtl --out {out}"
        answers = f"predictions_{task}.csv" if task else "predictions.csv"
        yield f"  mtl predict --ckpt_path {run_path} --input texts.csv --output {answers}"
    tasks = [Task.read(file) for file in results.plan.task_files.values()]
    columns = dict.fromkeys(column for task in tasks for column in task.text_columns)
    yield f"  (texts.csv has the columns of the tasks' texts: {', '.join(columns)})"
