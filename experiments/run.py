"""Runs a table: trains what is missing, and writes the report."""

import base64
import hashlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import Literal

from jsonargparse import auto_cli

from experiments.csv_export import scores_csv, summary_csv
from experiments.curves import draw_learning_curves, draw_task_shares
from experiments.formatting import without_folders
from experiments.local_executor import LocalExecutor
from experiments.pictures import draw_crossed_map, draw_differences
from experiments.plan import Plan
from experiments.rendering import Grid, latex, markdown, page, show
from experiments.report import grids
from experiments.results import Results
from experiments.run_index import RunIndex
from experiments.run_links import link_runs
from experiments.scheduler import Executor, run_graph
from experiments.search import searched_plan
from experiments.snapshots import save_snapshot
from experiments.table import Table
from mtl.errors import UserError
from mtl.training.run_folder import write_atomic

PICTURES = [
    ("mean difference from the baseline", "map.png", draw_crossed_map),
    (
        "difference from the baseline by task; bars are 95 % intervals over seeds",
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


def run_table(
    name: str,
    size: str = "mini",
    seeds: tuple[int, ...] = (),
    options: list[str] | None = None,
    where: Literal["local", "slurm"] = "local",
    jobs: int | None = None,
    resources: Path | None = None,
    root: Path = Path("runs"),
    render_only: bool = False,
    keep: bool = False,
) -> None:
    """Trains the missing runs of a table, and writes the report as Markdown, CSV, LaTeX.

    HTML and pictures.

    A run's folder is named by its resolved configuration, so a finished run is never repeated, even
    for another table.

    Args:
        name: A table of `experiments/tables/`, or a YAML file.
        size: `paper` (the published backbone and data) or `mini` (runs on two CPU cores).
        seeds: Seeds. Default: those of the size. With an additional seed only its runs are trained.
        options: Extra options of every run, such as `[--data.root, data]`.
        where: This machine, or a SLURM cluster.
        jobs: Number of runs at a time on this machine. Default: one per GPU, or per core.
        resources: YAML file with the resources of a cluster run, such as `{gpus_per_node: 1,
            timeout_min: 120}`.
        root: Folder of the runs and tables.
        render_only: Train nothing; report the finished runs.
        keep: Save the results in `experiments/results/` if no run is missing. `make results` adds
            them to the README.
    """
    try:
        plan = Plan(Table.read(name), size, tuple(seeds), tuple(options or ()))
        _check_precision(plan, where)
        out = root / "tables" / _folder_name(name, plan)
        make_executor = partial(_make_executor, where, jobs, resources, root / "slurm")
        log = root / "tables" / "search.log"
        plan = searched_plan(plan, root, None if render_only else make_executor, log)
        index = RunIndex(plan, root)
        failed = (
            {}
            if render_only
            else run_graph(plan.all_runs(), plan.dependencies, index.job, make_executor())
        )
        results = Results(plan, index.finished_folders(), failed)
    except UserError as error:
        sys.exit(f"table: error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command to resume")
    report = write_report(results, out)
    show(report)
    print(f"{out}/table.html, .md, .csv and .tex; make tensorboard LOGDIR={out}/runs")
    if keep and results.complete:
        print(save_snapshot(results, report, f"{Path(name).stem}-{size}", _command(name, plan)))
    elif keep:
        print("results not saved: some runs are missing")
    if failed:
        summary = f"{len(failed)} of {len(plan.all_runs())} runs failed"
        sys.exit("\n".join([*results.failures(), summary]))


def write_report(results: Results, out: Path) -> list[Grid]:
    """Writes the report in all formats.

    Args:
        results: The results.
        out: The table's folder.

    Returns:
        The grids of the report.
    """
    out.mkdir(parents=True, exist_ok=True)
    report = grids(results, link_runs(results, out))
    pictures = {title: draw(results, out / name) for title, name, draw in PICTURES}
    urls = {title: _data_url(path) for title, path in pictures.items() if path}
    write_atomic(out / "table.md", markdown(report))
    write_atomic(out / "table.csv", summary_csv(results))
    write_atomic(out / "scores.csv", scores_csv(results))
    write_atomic(out / "table.tex", "\n".join(latex(grid) for grid in report))
    write_atomic(out / "table.html", page(report, urls))
    return report


def _data_url(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _check_precision(plan: Plan, where: str) -> None:
    """Rejects `trainer.precision: fast` on a cluster, whose nodes may differ from this machine."""
    fast = plan.size.options.get("trainer.precision") == "fast"
    if where == "slurm" and fast and "--trainer.precision" not in plan.extra_options:
        raise UserError(
            "trainer.precision: the fastest precision of the cluster's nodes is unknown on this "
            "machine; "
            "give one with --options '[--trainer.precision, ...]'"
        )


def _folder_name(name: str, plan: Plan) -> str:
    """The name of the table's folder. Other options are another table; other seeds are not."""
    folder = f"{Path(name).stem}-{plan.size_name}"
    if not plan.extra_options:
        return folder
    return f"{folder}-{hashlib.sha256(json.dumps(plan.extra_options).encode()).hexdigest()[:6]}"


def _command(name: str, plan: Plan) -> str:
    """The `make` command that computes the table."""
    command = f"make table-{Path(name).stem} SIZE={plan.size_name}"
    command += f" SEEDS={','.join(map(str, plan.seeds))}"
    if plan.extra_options:
        command += f""" ARGS="--options '[{", ".join(without_folders(plan.extra_options))}]'\""""
    return command


def _make_executor(where: str, jobs: int | None, resources: Path | None, folder: Path) -> Executor:
    if where == "local":
        return LocalExecutor(jobs)
    from experiments.slurm import SlurmExecutor

    return SlurmExecutor(resources, folder)


if __name__ == "__main__":
    auto_cli(run_table, as_positional=True)
