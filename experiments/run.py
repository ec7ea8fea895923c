"""Runs a table of `experiments/tables/`, and keeps its results."""

import sys
from pathlib import Path
from typing import Literal

from jsonargparse import auto_cli

from experiments.snapshots import save_snapshot
from mtl.compare.definition import Experiment
from mtl.compare.engine import run_comparison
from mtl.compare.executors import check_precision, executor_maker
from mtl.compare.formatting import without_folders
from mtl.compare.plan import Plan
from mtl.compare.rendering import show
from mtl.errors import UserError


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
    """Trains the missing runs of a table, and writes the report as Markdown, CSV, LaTeX, HTML.

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
        plan = Plan(Experiment.read(name), size, tuple(seeds), tuple(options or ()))
        check_precision(plan, where)
        outcome = run_comparison(
            name,
            plan,
            root=root,
            make_executor=executor_maker(where, jobs, resources, root),
            render_only=render_only,
            command=_command(name, plan),
        )
    except UserError as error:
        sys.exit(f"table: error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command to resume")
    results, out = outcome.results, outcome.out
    show(outcome.report)
    print(f"{out}/table.html, .md, .csv and .tex; make tensorboard LOGDIR={out}/runs")
    if keep and results.complete:
        command = _command(name, results.plan)
        print(save_snapshot(results, outcome.report, f"{Path(name).stem}-{size}", command))
    elif keep:
        print("results not saved: some runs are missing")
    if outcome.failed:
        summary = f"{len(outcome.failed)} of {len(results.plan.all_runs())} runs failed"
        sys.exit("\n".join([*results.failures(), summary]))


def _command(name: str, plan: Plan) -> str:
    """The `make` command that computes the table."""
    command = f"make table-{Path(name).stem} SIZE={plan.size_name}"
    command += f" SEEDS={','.join(map(str, plan.seeds))}"
    if plan.extra_options:
        command += f""" ARGS="--options '[{", ".join(without_folders(plan.extra_options))}]'\""""
    return command


if __name__ == "__main__":
    auto_cli(run_table, as_positional=True)
