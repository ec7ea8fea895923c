"""Runs a comparison: trains what is missing, and writes the report."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtl.compare.csv_export import summary_csv
from mtl.compare.curves import draw_learning_curves, draw_task_shares
from mtl.compare.definition_export import definition_yaml
from mtl.compare.front_report import draw_front
from mtl.compare.jobs import Job
from mtl.compare.page import render
from mtl.compare.page.collect import page_data
from mtl.compare.page.index import SUMMARY, Summary, read_summaries, render_index
from mtl.compare.pictures import draw_crossed_map, draw_differences
from mtl.compare.plan import Plan
from mtl.compare.rendering import Report, latex, markdown
from mtl.compare.report import make_report
from mtl.compare.results import Results
from mtl.compare.run_index import RunIndex
from mtl.compare.run_links import link_runs
from mtl.compare.run_spec import RunSpec
from mtl.compare.scheduler import Executor, run_graph
from mtl.compare.score_lines import scores_csv
from mtl.compare.search import searched_plan
from mtl.compare.sequential import plan_at_look
from mtl.training.run_folder import check_links, write_atomic

PICTURES = {
    "map.png": draw_crossed_map,
    "changes.png": draw_differences,
    "curves.png": draw_learning_curves,
    "shares.png": draw_task_shares,
    "front.png": draw_front,
}


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
    command: str = "",
    look: bool | None = None,
    unloadable: Sequence[str] = (),
    known: Sequence[str] = (),
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
        command: The command that makes the comparison, for its page.
        look: Whether to go to the next look if the current one is finished. None: train all seeds
            of the plan.
        unloadable: The rows whose exports transformers cannot load.
        known: Warnings that were printed before the training, for the report.
    """
    out = root / "tables" / _folder_name(name, plan)
    check_links(out, inside=root)  # its own links lead to the runs in `root`
    plan = searched_plan(plan, root, None if render_only else make_executor)
    if look is not None and plan.experiment.looks:
        plan = plan_at_look(plan, root, advance=look and not render_only)
    index = RunIndex(plan, root)
    failed = {} if render_only else _train(plan, index, out, make_executor())
    results = Results(plan, index.finished_folders(), failed, index.tuning_folders())
    return Outcome(results, write_report(results, out, command, unloadable, known), out, failed)


def _train(plan: Plan, index: RunIndex, out: Path, executor: Executor) -> dict[RunSpec, str]:
    """Trains the missing runs; `logs/` in the table's folder links to their logs by row and seed.

    Returns:
        The reason for each run that failed.
    """
    logs = out / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)

    def link_log(run: RunSpec, job: Job) -> None:
        name = re.sub(r"[^\w+.-]+", "_", str(run)).strip("_")
        (logs / f"{name}.log").symlink_to(os.path.relpath(job.log, logs))

    return run_graph(plan.all_runs(), plan.dependencies, index.job, executor, on_start=link_log)


def write_report(
    results: Results,
    out: Path,
    command: str = "",
    unloadable: Sequence[str] = (),
    known: Sequence[str] = (),
) -> Report:
    """Writes the report in all formats, its page, and the index of all comparisons next to it.

    Args:
        results: The results.
        out: The table's folder.
        command: The command that makes the comparison, for the page.
        unloadable: The rows whose exports transformers cannot load.
        known: Warnings that were printed before the training.

    Returns:
        The report.
    """
    out.mkdir(parents=True, exist_ok=True)
    report = make_report(results, link_runs(results, out), unloadable, known)
    for name, draw in PICTURES.items():
        draw(results, out / name)
    write_atomic(out / "table.md", markdown(report))
    write_atomic(out / "table.csv", summary_csv(results))
    write_atomic(out / "scores.csv", scores_csv(results, out.name))
    write_atomic(out / "table.tex", "\n".join(latex(grid) for grid in report.grids))
    write_atomic(out / "comparison.yaml", definition_yaml(results.plan))
    page = page_data(results, report, out, command)
    write_atomic(out / "table.html", render(page))
    write_atomic(out / SUMMARY, Summary.of(page).json())
    index = render_index(
        "Comparisons", "All comparisons in this folder.", read_summaries(out.parent)
    )
    write_atomic(out.parent / "index.html", index)
    return report


def _folder_name(name: str, plan: Plan) -> str:
    """The name of the table's folder. Other options are another table; other seeds are not."""
    folder = f"{Path(name).stem}-{plan.size_name}"
    if not plan.extra_options:
        return folder
    return f"{folder}-{hashlib.sha256(json.dumps(plan.extra_options).encode()).hexdigest()[:6]}"
