"""From a table's definition to the table: runs what is missing, and renders what is there."""

import base64
import hashlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import Literal

from jsonargparse import auto_cli

from experiments.local_executor import Local
from experiments.pictures import draw_changes, draw_curves, draw_map, draw_shares
from experiments.plan import Plan
from experiments.rendering import Grid, latex, markdown, page, show
from experiments.report import grids, long_csv, shown_words, summary_csv
from experiments.results import Results
from experiments.run_index import Runs
from experiments.run_links import link_runs
from experiments.scheduler import Machine, run_graph
from experiments.search import searched
from experiments.snapshots import keep_results
from experiments.table import Table
from mtl.errors import UserError
from mtl.training.run_folder import write_atomic


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
    """Runs what a table lacks, and writes it beside its runs: Markdown, CSV, LaTeX, HTML and pictures.

    A run's folder is named by its resolved configuration, so that a finished one is never repeated, whichever table asks.

    Args:
        name: A table of `experiments/tables/`, or a YAML file.
        size: `paper`, the published backbone and data, or `mini`, which ends on two cores.
        seeds: Seeds; the size's own where absent. One more runs only that one.
        options: Options of every run, such as `[--data.root, data]`.
        where: This machine, or a SLURM cluster.
        jobs: Runs at a time on this machine; as many as there are GPUs, else cores, where absent.
        resources: YAML file of a cluster run's resources, such as `{gpus_per_node: 1, timeout_min: 120}`.
        root: Folder of the runs and tables.
        render_only: Whether to show what is finished and run nothing.
        keep: Whether to keep the results in `experiments/results/`, of which `make results` makes the README's, where no run
            is missing.
    """
    try:
        plan = Plan(Table.read(name), size, tuple(seeds), tuple(options or ()))
        if (
            where == "slurm"
            and plan.size.options.get("trainer.precision") == "fast"
            and "--trainer.precision" not in plan.more
        ):
            raise UserError(
                "which precision is fast on the nodes is not known here: say it, --options '[--trainer.precision, ...]'"
            )
        out = root / "tables" / _name_of(name, plan)
        machine = partial(_machine, where, jobs, resources, root / "slurm")
        plan = searched(
            plan, root, None if render_only else machine, root / "tables" / "search.log"
        )
        runs = Runs(plan, root)
        failed = {} if render_only else run_graph(plan.every(), plan.needs, runs.job, machine())
        results = Results(plan, runs.finished(), failed)
    except UserError as error:
        sys.exit(f"table: error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from here")
    parts = write(results, out)
    show(parts)
    print(f"{out}/table.html, .md, .csv and .tex; make tensorboard LOGDIR={out}/runs")
    if keep and not results.whole:
        print("not kept: some runs are missing")
    elif keep:
        print(keep_results(results, parts, f"{Path(name).stem}-{size}", _command(name, plan)))
    if failed:
        sys.exit(
            "\n".join([*results.failures(), f"{len(failed)} of {len(plan.every())} runs failed"])
        )


def write(results: Results, out: Path) -> list[Grid]:
    """Writes the report in all its forms.

    Args:
        results: What was found.
        out: The table's folder.

    Returns:
        The report's parts.
    """
    out.mkdir(parents=True, exist_ok=True)
    parts = grids(results, link_runs(results, out))
    pictures = {title: draw(results, out / name) for title, name, draw in PICTURES}
    data = {
        title: f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
        for title, path in pictures.items()
        if path
    }
    write_atomic(out / "table.md", markdown(parts))
    write_atomic(out / "table.csv", summary_csv(results))
    write_atomic(out / "scores.csv", long_csv(results))
    write_atomic(out / "table.tex", "\n".join(latex(part) for part in parts))
    write_atomic(out / "table.html", page(parts, data))
    return parts


PICTURES = [
    ("mean difference from the baseline", "map.png", draw_map),
    (
        "change against the baseline, task by task; bars are 95 % over seeds",
        "changes.png",
        draw_changes,
    ),
    (
        "learning curves: validation score of the rows that train all tasks",
        "curves.png",
        draw_curves,
    ),
    ("what was sampled, of the rows that train all tasks", "shares.png", draw_shares),
]


def _name_of(name: str, plan: Plan) -> str:
    """The folder's name: with other options it is another table; with other seeds the same one, of more or fewer runs."""
    digest = hashlib.sha256(json.dumps(plan.more).encode()).hexdigest()[:6]
    return f"{Path(name).stem}-{plan.name}" + (f"-{digest}" if plan.more else "")


def _command(name: str, plan: Plan) -> str:
    options = f""" ARGS="--options '[{", ".join(shown_words(plan.more))}]'\"""" if plan.more else ""
    return f"make table-{Path(name).stem} SIZE={plan.name} SEEDS={','.join(map(str, plan.seeds))}{options}"


def _machine(where: str, jobs: int | None, resources: Path | None, folder: Path) -> Machine:
    if where == "local":
        return Local(jobs)
    from experiments.slurm import Slurm

    return Slurm(resources, folder)


if __name__ == "__main__":
    auto_cli(run_table, as_positional=True)
