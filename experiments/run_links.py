"""A table's runs under their names: a folder of links, for a reader and for TensorBoard."""

import os
import re
import shutil
from pathlib import Path

from experiments.results import Results
from experiments.table import MEAN
from mtl.errors import UserError


def link_runs(results: Results, out: Path) -> dict[tuple[str, str], str]:
    """Makes `runs/ROW/seed-1`, or `runs/ROW/TASK/seed-1` for a row of single tasks, links to the runs' folders.

    Args:
        results: What was found.
        out: The table's folder.

    Returns:
        For each row and column the folder that has its runs, from the table's own.
    """
    shutil.rmtree(out / "runs", ignore_errors=True)
    found = {}
    for run, folder in results.folders.items():
        if run.row not in results.rows:
            continue
        place = Path(
            "runs", re.sub(r"[^\w+-]+", "_", run.row).strip("_"), *([run.task] if run.task else [])
        )
        link = out / place / f"seed-{run.seed}"
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink():
            raise UserError(
                f"rows: two names make one folder, {link.parent.name}; {run.row!r} is one of them"
            )
        link.symlink_to(os.path.relpath(folder, link.parent), target_is_directory=True)
        for column, (task, _) in results.plan.table.shown.items():
            if run.task in (None, task):
                found[run.row, column] = str(place)
        found[run.row, MEAN] = str(Path(*place.parts[:2]))
    return found
