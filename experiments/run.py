"""From a table's definition to the table: runs what is missing, and renders what is there."""

import base64
import sys
from pathlib import Path
from typing import Literal

from jsonargparse import auto_cli

from experiments.jobs import Job, Local, Machine, fast_precision, metrics, run_graph
from experiments.pictures import draw_changes, draw_curves
from experiments.quickstart import bundled_encoder
from experiments.report import grids, latex, long_csv, markdown, page, show
from experiments.results import Results
from experiments.table import Plan, Run, Table
from mtl.text import DataError


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
    """
    try:
        plan = Plan(Table.read(name), size, tuple(seeds), tuple(options or ()))
        runs = Runs(plan, root)
        failed: dict[Run, str] = {}
        if not render_only:
            failed = run_graph(plan.every(), runs.needs, runs.job, _machine(where, jobs, resources))
        results = Results(plan, runs.finished(), failed)
    except DataError as error:
        sys.exit(f"table: error: {error}")
    out = root / "tables" / f"{Path(name).stem}-{size}"
    write(results, out)
    show(grids(results))
    print(f"{out}/table.html, .md, .csv and .tex")
    if failed:
        sys.exit(f"{len(failed)} of {len(plan.every())} runs failed")


class Runs:
    """A plan's runs as jobs, and their folders.

    Args:
        plan: The plan.
        root: Folder of the runs.
    """

    def __init__(self, plan: Plan, root: Path) -> None:
        self.plan, self.root = plan, root
        self._jobs: dict[Run, Job] = {}

    def needs(self, run: Run) -> list[Run]:
        """The runs that one uses."""
        return [other for used in self.plan.used(run).values() for other in used]

    def job(self, run: Run) -> Job:
        """A run as a job; those that it uses are finished."""
        if run not in self._jobs:
            self._jobs[run] = self._job(run)
        return self._jobs[run]

    def finished(self) -> dict[Run, Path]:
        """Folders of the runs that are whole, of a grid the one that validates best."""
        found: dict[Run, Path] = {}
        for row in self.plan.table.rows:
            groups: dict[tuple[int, str | None], list[Run]] = {}
            for run in self.plan.runs(row):
                groups.setdefault((run.seed, run.task), []).append(run)
            for runs in groups.values():
                if all(need in found or self._whole(need) for run in runs for need in self.needs(run)):
                    whole = [run for run in runs if self.job(run).finished]
                    if len(whole) == len(runs):  # a grid is chosen from when all of it is there
                        best = self._best(whole)
                        found[best] = self.job(best).out
        return found

    def _whole(self, run: Run) -> bool:
        return all(map(self._whole, self.needs(run))) and self.job(run).finished

    def _best(self, runs: list[Run]) -> Run:
        return max(runs, key=lambda run: metrics(self.job(run).out)["validation"]["mean"]) if len(runs) > 1 else runs[0]

    def _job(self, run: Run) -> Job:
        # Heavy, and needed only where there is something to run or to find.
        from mtl import cli, score_prototypes

        folders = {option: str(self.job(self._best(used)).out) for option, used in self.plan.used(run).items()}
        words = [fast_precision() if word == "fast" else word for word in self.plan.words(run, folders)]
        words = [bundled_encoder() if word == "bundled" else word for word in words]
        spec = self.plan.table.rows[run.row]
        if spec.command == "score-prototypes":
            return Job(self.root / score_prototypes.name_of(words), tuple(words), tested=False, command=spec.command)
        if spec.command == "none":
            return Job(self.root / cli.name_of(["test", *words]), None, tuple(words))
        out = self.root / cli.name_of(["fit", *words])
        last = ("--ckpt_path", str(out / "checkpoints" / "last.ckpt")) if spec.tested == "last" else None
        return Job(out, tuple(words), last, tested=spec.tested != "none")


def write(results: Results, out: Path) -> None:
    """Writes the report in all its forms.

    Args:
        results: What was found.
        out: The table's folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    parts = grids(results)
    pictures = {title: draw(results, out / name) for title, name, draw in PICTURES}
    data = {
        title: f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" for title, path in pictures.items() if path
    }
    (out / "table.md").write_text(markdown(parts, out), encoding="utf-8")
    (out / "table.csv").write_text(long_csv(results), encoding="utf-8")
    (out / "table.tex").write_text("\n".join(latex(part) for part in parts), encoding="utf-8")
    (out / "table.html").write_text(page(parts, data, out), encoding="utf-8")


PICTURES = [
    ("change against the baseline, task by task", "changes.png", draw_changes),
    ("learning curves: validation score", "curves.png", draw_curves),
]


def _machine(where: str, jobs: int | None, resources: Path | None) -> Machine:
    if where == "local":
        return Local(jobs)
    from experiments.slurm import Slurm

    return Slurm(resources)


if __name__ == "__main__":
    auto_cli(run_table, as_positional=True)
