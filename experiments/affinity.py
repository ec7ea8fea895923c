"""Which tasks help which: every pair trained together against each alone, and the cheap estimate from gradients' cosines.

Joint training of all pairs takes K (K - 1) / 2 runs a seed. One joint run of all tasks measures the cosine between every
pair of gradients on its way; the rank correlation of the two says how far to trust it.

Source: pairwise transfer as in Standley et al. 2020; cosines between gradients as in Yu et al. 2020 and Fifty et al. 2021.
"""

import hashlib
import json
import math
import statistics
import sys
from itertools import combinations
from pathlib import Path

from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table as RichTable
from scipy.stats import spearmanr

from experiments.jobs import metrics
from experiments.local_executor import Local
from experiments.pictures import draw_maps
from experiments.plan import Plan, Run
from experiments.run_index import Runs
from experiments.scheduler import run_graph
from experiments.table import Row, Size, Table
from mtl.errors import UserError

ALL = "all together"


def affinity(
    suite: str = "samples",
    backbone: str = "bundled",
    seeds: tuple[int, ...] = (1, 2),
    epochs: int = 5,
    batch_size: int = 8,
    lr: float = 3e-4,
    options: list[str] | None = None,
    jobs: int | None = None,
    root: Path = Path("runs"),
) -> None:
    """Trains what is missing of the pairs, and prints and draws the two maps.

    Args:
        suite: A suite of `configs/suites/`, or a file.
        backbone: The pretrained encoder; `bundled` is the MiniLM that comes as a package.
        seeds: Seeds.
        epochs: Passes over the largest task's rows.
        batch_size: Rows of each task in a step.
        lr: Highest learning rate.
        options: Options of every run, such as `[--data.root, data]`.
        jobs: Runs at a time.
        root: Folder of the runs and maps.
    """
    try:
        table = definition(
            suite,
            backbone,
            seeds,
            {"trainer.max_epochs": epochs, "data.batch_size": batch_size, "model.lr": lr},
        )
        plan = Plan(table, "mini", options=tuple(options or ()))
        runs = Runs(plan, root)
        failed = run_graph(plan.every(), plan.needs, runs.job, Local(jobs))
    except UserError as error:
        sys.exit(f"affinity: error: {error}")
    if failed:
        sys.exit(
            "\n".join(
                f"affinity: {run.row}, seed {run.seed} failed: {why}" for run, why in failed.items()
            )
        )
    tasks = list(plan.files)
    gains, cosines = (
        transfer(plan, runs, tasks),
        gradient_cosines([runs.job(Run(ALL, seed, None)).out for seed in seeds], tasks),
    )
    agreement = agreed(gains, cosines)
    asked = json.dumps(
        [plan.words(run, {}) for run in plan.every()]
    )  # other options make another map
    out = root / "affinity" / f"{Path(suite).stem}-{hashlib.sha256(asked.encode()).hexdigest()[:6]}"
    out.mkdir(parents=True, exist_ok=True)
    found = {
        "tasks": tasks,
        "gain": gains,
        "cosine": cosines,
        "rank_correlation": None if math.isnan(agreement) else agreement,
        "seeds": list(seeds),
    }
    (out / "affinity.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    draw_maps(tasks, gains, cosines, agreement, out / "affinity.png")
    _show(tasks, gains, agreement, len(seeds))
    print(f"{out}/affinity.png, affinity.json")


def definition(
    suite: str, backbone: str, seeds: tuple[int, ...], options: dict[str, object]
) -> Table:
    """A table of each task alone, every pair, and all together with the cosines measured."""
    shared = {"model.pooling": "mean"}
    rows = {"single": Row(of="task", options={"model": "MultiHead", **shared})}
    table = Table("which tasks help which?", suite, rows, "single", {}, "")
    mixed = ["sampling/mixed", "methods/multi_head"]
    for pair in combinations(table.task_files, 2):
        rows[" + ".join(pair)] = Row(tasks=list(pair), configs=mixed, options=shared)
    watched = {
        **shared,
        "trainer.callbacks": [
            {"class_path": "GradientConflicts", "init_args": {"every_n_steps": 1}}
        ],
    }
    rows[ALL] = Row(configs=mixed, options=watched, tested="none")
    size = Size(backbone, {**options, "trainer.precision": "fast"}, seeds=list(seeds))
    return Table(
        table.question, suite, rows, "single", {"mini": size}, "as many passes over the rows"
    )


def transfer(plan: Plan, runs: Runs, tasks: list[str]) -> list[list[float | None]]:
    """What each task (line) gains on its test rows when it is trained with another (column), in hundredths; mean over seeds."""

    def score(run: Run, task: str) -> float:
        found = metrics(runs.job(run).out)["test"]["tasks"]
        return 100 * statistics.fmean(
            split["score"] for name, split in found.items() if name.partition("/")[0] == task
        )

    gains: list[list[float | None]] = [[None] * len(tasks) for _ in tasks]
    for one, other in combinations(range(len(tasks)), 2):
        row = f"{tasks[one]} + {tasks[other]}"
        for helped, helper in ((one, other), (other, one)):
            task = tasks[helped]
            seeds = [
                score(Run(row, seed, None), task) - score(Run("single", seed, task), task)
                for seed in plan.seeds
            ]
            gains[helped][helper] = statistics.fmean(seeds)
    return gains


def gradient_cosines(folders: list[Path], tasks: list[str]) -> list[list[float | None]]:
    """The mean cosine between each pair of tasks' gradients over joint runs, from their TensorBoard events."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    values: dict[tuple[int, int], list[float]] = {}
    for folder in folders:
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        for one, other in combinations(range(len(tasks)), 2):
            for a, b in ((one, other), (other, one)):
                name = f"conflicts/cosine/{tasks[a]}-{tasks[b]}"
                if name in events.Tags()["scalars"]:
                    values.setdefault((one, other), []).extend(
                        point.value for point in events.Scalars(name)
                    )
    cosines: list[list[float | None]] = [[None] * len(tasks) for _ in tasks]
    for (one, other), found in values.items():
        cosines[one][other] = cosines[other][one] = statistics.fmean(found)
    return cosines


def agreed(gains: list[list[float | None]], cosines: list[list[float | None]]) -> float:
    """Spearman's rank correlation of a pair's mean gain and its cosine, over pairs; NaN where there are fewer than three."""
    pairs = []
    for one, other in combinations(range(len(gains)), 2):
        both, cosine = (gains[one][other], gains[other][one]), cosines[one][other]
        if both[0] is not None and both[1] is not None and cosine is not None:
            pairs.append((statistics.fmean((both[0], both[1])), cosine))
    return float(spearmanr(*zip(*pairs, strict=True)).statistic) if len(pairs) > 2 else math.nan


def _show(tasks: list[str], gains: list[list[float | None]], agreement: float, seeds: int) -> None:
    title = f"test score with the column's task minus alone, mean over {seeds} seeds"
    table = RichTable(title=title, title_justify="left")
    for column in ("", *tasks):
        table.add_column(column, justify="right" if column else "left")
    for name, line in zip(tasks, gains, strict=True):
        table.add_row(name, *["" if gain is None else f"{gain:+.1f}" for gain in line])
    Console().print(table)
    print(f"rank correlation of pairs' gains with their gradients' cosines: {agreement:+.2f}")


if __name__ == "__main__":
    auto_cli(affinity, as_positional=False)
