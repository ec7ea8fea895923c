"""Which tasks help which: joint training of every pair against each task alone.

And an estimate from gradient cosines.

Training all pairs takes K (K - 1) / 2 runs per seed. One joint run of all tasks measures the cosine
between every pair of task gradients; the rank correlation of the two says how reliable this cheap
estimate is.

Source: pairwise transfer as in Standley et al. 2020; gradient cosines as in Yu et al. 2020 and
Fifty et al. 2021.
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

from mtl.compare.definition import Experiment
from mtl.compare.definition_parts import Preset, Variant
from mtl.compare.events import read_scalars
from mtl.compare.formatting import interval, p_value
from mtl.compare.local_executor import LocalExecutor
from mtl.compare.pictures import draw_affinity
from mtl.compare.plan import Plan
from mtl.compare.results import Results, TaskDifference
from mtl.compare.run_arguments import run_arguments
from mtl.compare.run_index import RunIndex
from mtl.compare.run_spec import RunSpec
from mtl.compare.scheduler import run_graph
from mtl.errors import UserError

ALL = "all together"

# A value for each pair of tasks, by task index; None on the diagonal.
Matrix = list[list[float | None]]
# The gain of the first task from the second one.
Gains = dict[tuple[str, str], TaskDifference]


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
    """Trains the missing runs of all pairs.

    And prints and draws the gains and the gradient cosines.

    Args:
        suite: A suite of `configs/suites/`, or a file.
        backbone: Pretrained encoder; `bundled` is the MiniLM that is installed as a package.
        seeds: Seeds.
        epochs: Passes over the largest task's examples.
        batch_size: Examples of each task per step.
        lr: Peak learning rate.
        options: Extra options of every run, such as `[--data.root, data]`.
        jobs: Number of runs at a time. Default: one per GPU, or per core.
        root: Folder of the runs and results.
    """
    settings: dict[str, object] = {
        "trainer.max_epochs": epochs,
        "data.batch_size": batch_size,
        "model.lr": lr,
    }
    try:
        plan = Plan(
            definition(suite, backbone, seeds, settings), "mini", options=tuple(options or ())
        )
        index = RunIndex(plan, root)
        executor = LocalExecutor(jobs)
        failed = run_graph(plan.all_runs(), plan.dependencies, index.job, executor)
    except UserError as error:
        sys.exit(f"affinity: error: {error}")
    if failed:
        sys.exit("\n".join(f"affinity: {run} failed: {why}" for run, why in failed.items()))
    tasks = list(plan.task_files)
    pairs = pairwise_gains(Results(plan, index.finished_folders(), {}), tasks)
    gains: Matrix = [
        [pairs[helped, helper].difference if helped != helper else None for helper in tasks]
        for helped in tasks
    ]
    cosines = gradient_cosines([index.job(RunSpec(ALL, seed, None)).out for seed in seeds], tasks)
    agreement = rank_correlation(gains, cosines)
    # Other options have their own folder.
    content = json.dumps([run_arguments(plan, run, {}) for run in plan.all_runs()])
    digest = hashlib.sha256(content.encode()).hexdigest()[:6]
    out = root / "affinity" / f"{Path(suite).stem}-{digest}"
    out.mkdir(parents=True, exist_ok=True)
    results = {
        "tasks": tasks,
        "gain": gains,
        "intervals": {
            f"{helped} from {helper}": [
                None if math.isnan(end) else end for end in (gain.low, gain.high, gain.p)
            ]
            for (helped, helper), gain in pairs.items()
        },
        "cosine": cosines,
        "rank_correlation": None if math.isnan(agreement) else agreement,
        "seeds": list(seeds),
    }
    (out / "affinity.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    draw_affinity(tasks, gains, cosines, agreement, out / "affinity.png")
    _show(pairs, agreement, len(seeds))
    print(f"{out}/affinity.png, affinity.json")


def definition(
    suite: str, backbone: str, seeds: tuple[int, ...], options: dict[str, object]
) -> Experiment:
    """A table with a row for single tasks, one for each pair.

    And one for all tasks that logs gradient cosines.

    Args:
        suite: The suite.
        backbone: Pretrained encoder.
        seeds: Seeds.
        options: Options of every run.
    """
    question = "Which tasks help which?"
    pooling = {"model.pooling": "mean"}
    rows = {"single": Variant(of="task", options={"model": "MultiHead", **pooling})}
    task_files = Experiment(question, rows, "single", {}, "", suite).task_files
    configs = ["sampling/mixed", "methods/multi_head"]
    for pair in combinations(task_files, 2):
        rows[" + ".join(pair)] = Variant(tasks=list(pair), configs=configs, options=pooling)
    callback = {"class_path": "GradientConflicts", "init_args": {"every_n_steps": 1}}
    with_cosines = {**pooling, "trainer.callbacks": [callback]}
    rows[ALL] = Variant(configs=configs, options=with_cosines, tested="none")
    size = Preset(backbone, {**options, "trainer.precision": "fast"}, seeds=list(seeds))
    budget = "the same number of passes over the examples"
    return Experiment(question, rows, "single", {"mini": size}, budget, suite)


def pairwise_gains(results: Results, tasks: list[str]) -> Gains:
    """How much each task gains in test score, in points, from training with each other one.

    By the first task (helped) and the second one (helper). With one seed only the difference is
    known.

    Args:
        results: The results of the plan of `definition`.
        tasks: Names of the tasks.
    """
    found: Gains = {}
    for first, second in combinations(tasks, 2):
        row = f"{first} + {second}"
        for helped, helper in ((first, second), (second, first)):
            scores, alone = (results.scores(each, helped) for each in (row, "single"))
            unknown = TaskDifference(
                statistics.fmean(scores) - statistics.fmean(alone), math.nan, math.nan, math.nan
            )
            found[helped, helper] = results.task_decisions.get((row, helped), unknown)
    return found


def gradient_cosines(folders: list[Path], tasks: list[str]) -> Matrix:
    """The mean cosine between the gradients of each pair of tasks in joint runs.

    From their TensorBoard events.

    Args:
        folders: Folders of the joint runs.
        tasks: Names of the tasks.
    """
    prefix = "conflicts/cosine/"
    logged = [read_scalars(folder, prefix) for folder in folders]
    cosines: Matrix = [[None] * len(tasks) for _ in tasks]
    for first, second in combinations(range(len(tasks)), 2):
        tags = [f"{prefix}{tasks[a]}-{tasks[b]}" for a, b in ((first, second), (second, first))]
        values = [value for run in logged for tag in tags for _, value in run.get(tag, [])]
        if values:
            cosines[first][second] = cosines[second][first] = statistics.fmean(values)
    return cosines


def rank_correlation(gains: Matrix, cosines: Matrix) -> float:
    """Spearman's rank correlation over pairs of a pair's mean gain and its cosine.

    NaN for fewer than three pairs.

    Args:
        gains: Gains, shape (tasks, tasks).
        cosines: Cosines, shape (tasks, tasks).
    """
    pairs = []
    for first, second in combinations(range(len(gains)), 2):
        one, other, cosine = gains[first][second], gains[second][first], cosines[first][second]
        if one is not None and other is not None and cosine is not None:
            pairs.append((statistics.fmean((one, other)), cosine))
    return float(spearmanr(*zip(*pairs, strict=True)).statistic) if len(pairs) > 2 else math.nan


def _show(gains: Gains, agreement: float, seeds: int) -> None:
    title = f"test score together minus alone, in points, {seeds} seeds"
    table = RichTable(title=title, title_justify="left")
    for column in ("task", "trained with", "gain [95 %]", "p (Holm)"):
        table.add_column(column, justify="left" if column in ("task", "trained with") else "right")
    for (helped, helper), gain in gains.items():
        shown = interval(gain.difference, gain.low, gain.high)
        table.add_row(helped, helper, shown, p_value(gain.p))
    Console().print(table)
    print(
        "exploratory: each interval stands alone; p-values are corrected over all pairs (Holm)\n"
        f"rank correlation of the pairs' gains with their gradient cosines: {agreement:+.2f}"
    )


if __name__ == "__main__":
    auto_cli(affinity, as_positional=False)
