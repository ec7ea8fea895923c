"""Links to a table's runs under readable names, for browsing and for TensorBoard."""

import os
import shutil
from pathlib import Path

from mtl.compare.definition import MEAN
from mtl.compare.results import Results
from mtl.errors import UserError
from mtl.training.run_folder import row_folder_name


def link_runs(results: Results, out: Path) -> dict[tuple[str, str], str]:
    """Makes links to the run folders.

    `runs/ROW/seed-1`, or `runs/ROW/TASK/seed-1` for a row with one run per task.

    Args:
        results: The results.
        out: The table's folder.

    Returns:
        For each row and column the folder of the links to its runs, relative to the table's folder.
    """
    shutil.rmtree(out / "runs", ignore_errors=True)
    folders = {}
    for run, run_folder in results.folders.items():
        if run.row not in results.rows:
            continue
        row_folder = Path("runs", row_folder_name(run.row))
        folder = row_folder / run.task if run.task else row_folder
        link = out / folder / f"seed-{run.seed}"
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink():
            raise UserError(
                f"rows: {run.row!r} and another row have the same folder name "
                f"{row_folder.name!r}; rename one of them"
            )
        link.symlink_to(os.path.relpath(run_folder, link.parent), target_is_directory=True)
        for name, column in results.plan.experiment.shown_columns.items():
            if run.task is None or column.task in run.tasks:
                folders[run.row, name] = str(folder)
        folders[run.row, MEAN] = str(row_folder)
    return folders
