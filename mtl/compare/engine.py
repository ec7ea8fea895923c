"""Runs a comparison: trains what is missing, and writes the report."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mtl.compare.csv_export import scores_csv, summary_csv
from mtl.compare.curves import draw_learning_curves, draw_task_shares
from mtl.compare.pictures import draw_crossed_map, draw_differences
from mtl.compare.plan import Plan, RunSpec
from mtl.compare.rendering import Report, latex, markdown, page
from mtl.compare.report import make_report
from mtl.compare.results import Results
from mtl.compare.run_index import RunIndex
from mtl.compare.run_links import link_runs
from mtl.compare.scheduler import Executor, run_graph
from mtl.compare.search import searched_plan
from mtl.training.run_folder import write_atomic

PICTURES = [
    ("mean difference from the baseline", "map.png", draw_crossed_map),
    (
        "difference from the baseline, with the interval that decides",
        "changes.png",
        draw_differences,
    ),
    (
        "learning curves: validation score of the rows that train all tasks in one run",
        "curves.png",
        draw_learning_curves,
    ),
    (
        "share of each task among the examples drawn, for the rows that train all tasks in one run",
        "shares.png",
        draw_task_shares,
    ),
]


@dataclass(frozen=True)
class Outcome:
    """A comparison after its runs.

    Attributes:
        results: The results of the finished runs.
        report: The report.
        out: The folder of the report.
        failed: The reason for each run that failed.
    """

    results: Results
    report: Report
    out: Path
    failed: dict[RunSpec, str]


def run_comparison(
    name: str,
    plan: Plan,
    *,
    root: Path,
    make_executor: Callable[[], Executor],
    render_only: bool = False,
) -> Outcome:
    """Trains the missing runs of a comparison, and writes its report.

    A run's folder is named by its resolved configuration, so a finished run is never repeated, even
    for another comparison.

    Args:
        name: The comparison's name, or its file.
        plan: The runs.
        root: Folder of the runs and reports.
        make_executor: Makes the executor of a round of runs.
        render_only: Train nothing; report the finished runs.
    """
    out = root / "tables" / _folder_name(name, plan)
    log = root / "tables" / "search.log"
    plan = searched_plan(plan, root, None if render_only else make_executor, log)
    index = RunIndex(plan, root)
    failed = (
        {}
        if render_only
        else run_graph(plan.all_runs(), plan.dependencies, index.job, make_executor())
    )
    results = Results(plan, index.finished_folders(), failed)
    return Outcome(results, write_report(results, out), out, failed)


def write_report(results: Results, out: Path) -> Report:
    """Writes the report in all formats.

    Args:
        results: The results.
        out: The table's folder.

    Returns:
        The report.
    """
    out.mkdir(parents=True, exist_ok=True)
    report = make_report(results, link_runs(results, out))
    pictures = {title: draw(results, out / name) for title, name, draw in PICTURES}
    urls = {title: _data_url(path) for title, path in pictures.items() if path}
    write_atomic(out / "table.md", markdown(report))
    write_atomic(out / "table.csv", summary_csv(results))
    write_atomic(out / "scores.csv", scores_csv(results))
    write_atomic(out / "table.tex", "\n".join(latex(grid) for grid in report.grids))
    write_atomic(out / "table.html", page(report, urls))
    return report


def _data_url(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _folder_name(name: str, plan: Plan) -> str:
    """The name of the table's folder. Other options are another table; other seeds are not."""
    folder = f"{Path(name).stem}-{plan.size_name}"
    if not plan.extra_options:
        return folder
    return f"{folder}-{hashlib.sha256(json.dumps(plan.extra_options).encode()).hexdigest()[:6]}"
