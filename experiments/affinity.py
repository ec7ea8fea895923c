"""Which tasks help which: joint training of every pair against each task alone.

And estimates from one joint run.

Training all pairs takes K (K - 1) / 2 runs per seed. One joint run of all tasks measures the cosine
between every pair of task gradients, inter-task affinity, and gradients from which the losses of
groups are estimated (`mtl group`); rank correlations say how reliable these cheap estimates are.

Source: pairwise transfer as in Standley et al. 2020; gradient cosines as in Yu et al. 2020;
inter-task affinity as in Fifty et al. 2021; losses of groups as in Li et al. 2025 (EnsembleLoRA).
"""

import hashlib
import json
import math
import sys
from pathlib import Path

from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table as RichTable

from experiments.transfer import (
    Matrix,
    PairGains,
    gradient_cosines,
    group_gains,
    group_row,
    pairwise_gains,
    rank_correlation,
)
from mtl.compare.definition import Experiment
from mtl.compare.definition_parts import Preset, Variant
from mtl.compare.formatting import interval, p_value
from mtl.compare.local_executor import LocalExecutor
from mtl.compare.pictures import draw_affinity
from mtl.compare.plan import Plan
from mtl.compare.results import Results
from mtl.compare.run_arguments import run_arguments
from mtl.compare.run_index import RunIndex
from mtl.compare.run_spec import RunSpec
from mtl.compare.scheduler import run_graph
from mtl.errors import UserError
from mtl.grouping.gains import Agreement, agreement, groups_of
from mtl.grouping.run_files import estimates

ALL = "all together"


def affinity(
    suite: str = "samples",
    backbone: str = "bundled",
    seeds: tuple[int, ...] = (1, 2),
    epochs: int = 5,
    batch_size: int = 8,
    lr: float = 3e-4,
    largest: int = 2,
    options: list[str] | None = None,
    jobs: int | None = None,
    root: Path = Path("runs"),
) -> None:
    """Trains the missing runs of all pairs.

    And prints and draws the gains, the gradient cosines, and what estimates of groups are worth.

    Args:
        suite: A suite of `configs/suites/`, or a file.
        backbone: Pretrained encoder; `bundled` is the MiniLM that is installed as a package.
        seeds: Seeds.
        epochs: Passes over the largest task's examples.
        batch_size: Examples of each task per step.
        lr: Peak learning rate.
        largest: Tasks of the largest groups that are trained, for the estimates: 3 adds triples.
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
            definition(suite, backbone, seeds, settings, largest),
            "mini",
            options=tuple(options or ()),
        )
        index = RunIndex(plan, root)
        executor = LocalExecutor(jobs)
        failed = run_graph(plan.all_runs(), plan.dependencies, index.job, executor)
    except UserError as error:
        sys.exit(f"affinity: error: {error}")
    if failed:
        sys.exit("\n".join(f"affinity: {run} failed: {why}" for run, why in failed.items()))
    tasks = list(plan.task_files)
    results = Results(plan, index.finished_folders(), {})
    pairs = pairwise_gains(results, tasks)
    gains: Matrix = [
        [pairs[helped, helper].difference if helped != helper else None for helper in tasks]
        for helped in tasks
    ]
    joint = [index.job(RunSpec(ALL, seed, None)).out for seed in seeds]
    cosines = gradient_cosines(joint, tasks)
    of_cosines = rank_correlation(gains, cosines)
    groups = [group for group in groups_of(tasks, largest) if len(group) > 1]
    measured = group_gains(results, tasks, groups)
    estimated = {name: agreement(measured, each) for name, each in estimates(joint, groups).items()}
    # Other options have their own folder.
    content = json.dumps([run_arguments(plan, run, {}) for run in plan.all_runs()])
    digest = hashlib.sha256(content.encode()).hexdigest()[:6]
    out = root / "affinity" / f"{Path(suite).stem}-{digest}"
    out.mkdir(parents=True, exist_ok=True)
    contents = {
        "tasks": tasks,
        "gain": gains,
        "intervals": {
            f"{helped} from {helper}": [_known(end) for end in (gain.low, gain.high, gain.p)]
            for (helped, helper), gain in pairs.items()
        },
        "cosine": cosines,
        "rank_correlation": _known(of_cosines),
        "estimates": {
            name: {"rank_correlation": _known(each.correlation), "pairs": each.pairs}
            for name, each in estimated.items()
        },
        "seeds": list(seeds),
    }
    (out / "affinity.json").write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
    draw_affinity(tasks, gains, cosines, of_cosines, out / "affinity.png")
    _show(pairs, of_cosines, estimated, len(seeds))
    print(f"{out}/affinity.png, affinity.json")


def _known(value: float) -> float | None:
    """The value for JSON, which has no NaN."""
    return None if math.isnan(value) else value


def definition(
    suite: str,
    backbone: str,
    seeds: tuple[int, ...],
    options: dict[str, object],
    largest: int = 2,
) -> Experiment:
    """A table with a row for single tasks, one for each pair or larger group.

    And one for all tasks that measures gradients.

    Args:
        suite: The suite.
        backbone: Pretrained encoder.
        seeds: Seeds.
        options: Options of every run.
        largest: Tasks of the largest groups.
    """
    question = "Which tasks help which?"
    pooling = {"model.pooling": "mean"}
    rows = {"single": Variant(of="task", options={"model": "MultiHead", **pooling})}
    task_files = Experiment(question, rows, "single", {}, "", suite).task_files
    configs = ["sampling/mixed", "methods/multi_head"]
    tasks = list(task_files)
    for group in groups_of(tasks, largest):
        if len(group) > 1:
            chosen = [task for task in tasks if task in group]
            rows[group_row(tasks, group)] = Variant(tasks=chosen, configs=configs, options=pooling)
    callbacks = [
        {"class_path": "GradientConflicts", "init_args": {"every_n_steps": 1}},
        {"class_path": "GradientSnapshots"},
        {"class_path": "TaskAffinity", "init_args": {"every_n_steps": 5}},
    ]
    measuring = {**pooling, "trainer.callbacks": callbacks}
    rows[ALL] = Variant(configs=configs, options=measuring, tested="none")
    size = Preset(backbone, {**options, "trainer.precision": "fast"}, seeds=list(seeds))
    budget = "the same number of passes over the examples"
    return Experiment(question, rows, "single", {"mini": size}, budget, suite)


def _show(gains: PairGains, of_cosines: float, estimated: dict[str, Agreement], seeds: int) -> None:
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
        f"rank correlation of the pairs' gains with their gradient cosines: {of_cosines:+.2f} "
        f"({len(gains) // 2} pairs)"
    )
    for name, (correlation, pairs) in estimated.items():
        print(
            f"rank correlation of each task's gain in each group with the estimate by {name}: "
            f"{correlation:+.2f} ({pairs} pairs of a task and a group)"
        )


if __name__ == "__main__":
    auto_cli(affinity, as_positional=False)
