"""Does multi-task fine-tuning with prompts help on a task that it never saw, with and without a few examples of it?

For each held-out task five columns: a prompt without training; multi-task fine-tuning on the other tasks, then a prompt;
prompt-based fine-tuning on k examples of each class; both; and standard fine-tuning with a new head on the same examples.

Source: the leave-one-out stage in front of LM-BFF (Gao et al. 2021), specification A.6 to A.8.
"""

import json
import math
import statistics
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Literal

import yaml
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from experiments.jobs import Job, fast_precision, metrics, run_all
from mtl.tasks import Task

COLUMNS = ["zero-shot", "MT-FT, zero-shot", "PB-FT", "MT-FT, PB-FT", "fine-tuning"]
# RoBERTa-large, 16 examples of each class; zero-shot and PB-FT as the fork reports them, fine-tuning as recalled from
# Gao et al. 2021, table 3, and not verified.
PUBLISHED: dict[str, tuple[str, ...]] = {
    "sst2": ("83.6", "92.9", "92.6 ± 1.2", "92.8 ± 0.7", "81.4 ± 3.8 (unverified)"),
    "rte": ("51.3", "74.0", "67.8 ± 2.7", "73.0 ± 2.0", "54.4 ± 3.9 (unverified)"),
    "mrpc": ("61.9", "81.6", "71.4 ± 7.9", "77.1 ± 3.7", "76.6 ± 2.5 (unverified)"),
    "qnli": ("50.8", "65.8", "69.4 ± 3.6", "71.9 ± 1.6", "60.2 ± 6.5 (unverified)"),
    "qqp": ("32.0", "63.4", "66.2 ± 4.9", "68.7 ± 3.4", "60.7 ± 4.3 (unverified)"),
    "trec": ("47.7", "36.8", "86.0 ± 3.0", "87.6 ± 3.5", "88.8 ± 2.1 (unverified)"),
    "cr": ("79.5", "88.8", "91.4 ± 0.9", "91.6 ± 0.9", "75.8 ± 3.2 (unverified)"),
    "mr": ("80.8", "86.5", "86.9 ± 1.7", "87.8 ± 1.4", "76.9 ± 5.9 (unverified)"),
    "mpqa": ("67.6", "73.9", "84.8 ± 1.6", "85.2 ± 2.3", "72.0 ± 3.8 (unverified)"),
    "subj": ("51.5", "55.3", "90.1 ± 1.4", "90.4 ± 2.1", "90.8 ± 1.8 (unverified)"),
    "mnli": ("50.8", "63.2", "68.2 ± 2.7", "71.4 ± 1.3", "45.8 ± 6.4 (unverified)"),
    "snli": ("49.5", "61.8", "75.1 ± 4.2", "78.0 ± 3.8", "48.4 ± 4.8 (unverified)"),
    "cola": ("2.0", "-0.1", "8.6 ± 5.8", "5.5 ± 3.8", "33.9 ± 14.3 (unverified)"),
    "sst5": ("35.0", "37.2", "48.1 ± 1.6", "49.5 ± 0.9", "43.9 ± 2.0 (unverified)"),
}
# Where the published metric is not the task's first.
METRIC = {"mrpc": "f1", "qqp": "f1"}
SUITE = Path("configs/suites/lmbff.yaml")


def prompt_kshot(
    backbone: str = "roberta-large",
    tasks: tuple[str, ...] = ("sst2", "rte", "mrpc", "qnli"),
    seeds: tuple[int, ...] = (13, 21, 42, 87, 100),
    auxiliary: Literal["published", "same"] = "published",
    batch_sizes: tuple[int, ...] = (2, 4, 8),
    lrs: tuple[float, ...] = (1e-5, 2e-5, 5e-5),
    steps: int = 1000,
    multi_task_lr: float = 1e-5,
    multi_task_epochs: int = 10,
    precision: str | None = None,
    options: list[str] | None = None,
    out: Path = Path("runs/prompt_kshot"),
    jobs: int | None = None,
) -> None:
    """Runs what is missing of the five columns and prints the table.

    Args:
        backbone: A masked language model.
        tasks: Tasks to hold out, one after the other.
        seeds: Draws of the k examples, which also seed the runs.
        auxiliary: Whether the other tasks' examples are always those of draw 42, or of the same draw.
        batch_sizes: Sizes to choose from on the k-shot selection rows.
        lrs: Learning rates to choose from.
        steps: Steps of fine-tuning on the held-out task's examples; a tenth of them lies between evaluations.
        multi_task_lr: Learning rate of multi-task fine-tuning.
        multi_task_epochs: Its epochs of 100 steps.
        precision: Lightning's name of a precision; bf16-mixed where the machine computes in bf16, else 32-true.
        options: Options of all commands, such as `[--data.root, data, --data.draws, data/lmbff]`.
        out: Folder of the runs and the table.
        jobs: Runs at a time; all cores of a machine without a GPU, one on a GPU.
    """
    suite = [SUITE.parent / name for name in yaml.safe_load(SUITE.read_text(encoding="utf-8"))["tasks"]]
    files = {file.stem: file for file in suite if not Task.read(file).regression}  # STS-B is tested by nobody here
    common = ("--backbone", backbone, "--trainer.precision", precision or fast_precision())
    plan = Plan(
        files,
        common,
        tuple(options or []),
        out,
        seeds,
        auxiliary,
        list(product(batch_sizes, lrs)),
        steps,
        multi_task_lr,
        multi_task_epochs,
    )
    for stage in (plan.first(tasks), plan.second(tasks)):
        if failed := run_all(stage, jobs):
            sys.exit("\n".join(f"prompt_kshot: {job.out} failed; its log is {job.out}.log" for job in failed))
    _report(plan, tasks)


class Plan:
    """The runs of the table, and where they are.

    Args:
        files: Task files by name.
        common: Options of every command.
        more: Options that come after its files.
        out: Folder of the runs.
        seeds: Draws.
        auxiliary: As in `prompt_kshot`.
        grid: Batch sizes and learning rates to choose from.
        steps: Steps of fine-tuning on the held-out task.
        multi_task_lr: Learning rate of multi-task fine-tuning.
        multi_task_epochs: Its epochs.
    """

    def __init__(
        self,
        files: dict[str, Path],
        common: tuple[str, ...],
        more: tuple[str, ...],
        out: Path,
        seeds: Sequence[int],
        auxiliary: str,
        grid: list[tuple[int, float]],
        steps: int,
        multi_task_lr: float,
        multi_task_epochs: int,
    ) -> None:
        self.files, self.common, self.more, self.out = files, common, more, out
        self.seeds, self.auxiliary = seeds, auxiliary
        self.grid, self.steps, self.multi_task_lr, self.epochs = grid, steps, multi_task_lr, multi_task_epochs

    def first(self, tasks: Sequence[str]) -> list[Job]:
        """What needs no other run: no training, multi-task fine-tuning, and all that starts from the backbone."""
        jobs = []
        for task in tasks:
            given = (f"--tasks+={self.files[task]}", *self.common, "-c", "configs/sampling/k_shot.yaml")
            jobs.append(Job(self.zero(task), None, (*given, "-c", "configs/methods/prompt.yaml", *self.more)))
            jobs += [self._multi_task(task, seed) for seed in self.stages()]
            for seed in self.seeds:
                jobs += self._few(task, seed, "pbft", "configs/methods/prompt.yaml", ())
                head = ("--model.pooling", "pooler", "--model.weight_decay", "0", "--model.warmup", "0")
                jobs += self._few(task, seed, "finetuning", "configs/methods/multi_head.yaml", head)
        return jobs

    def second(self, tasks: Sequence[str]) -> list[Job]:
        """What starts from multi-task fine-tuning."""
        jobs = []
        for task, seed in product(tasks, self.seeds):
            start = ("--model.init_from", str(self.multi_task(task, seed)))
            jobs += self._few(task, seed, "both", "configs/methods/prompt.yaml", start)
        return jobs

    def stages(self) -> list[int]:
        """Draws of the other tasks' examples."""
        return [42] if self.auxiliary == "published" else list(self.seeds)

    def zero(self, task: str) -> Path:
        """Folder of the prompt without training."""
        return self.out / task / "zero"

    def multi_task(self, task: str, seed: int) -> Path:
        """Folder of the multi-task run that a seed starts from."""
        return self.out / task / f"multi_task-{42 if self.auxiliary == 'published' else seed}"

    def few(self, task: str, seed: int, kind: str) -> list[Path]:
        """Folders of a grid."""
        return [self.out / task / f"{kind}-{seed}-{size}-{lr:g}" for size, lr in self.grid]

    def chosen(self, task: str, seed: int, kind: str) -> Path:
        """The run of a grid that scored best on the selection rows."""
        return max(self.few(task, seed, kind), key=lambda folder: metrics(folder)["validation"]["mean"])

    def _multi_task(self, task: str, seed: int) -> Job:
        tasks = [f"--tasks+={file}" for file in self.files.values()]
        words = [
            *tasks,
            *self.common,
            "-c",
            "configs/sampling/leave_one_out.yaml",
            "-c",
            "configs/methods/prompt.yaml",
            *self.more,
        ]
        words += ["--data.held_out", task, "--data.draw", str(seed), "--seed_everything", str(seed)]
        words += ["--model.lr", str(self.multi_task_lr), "--trainer.max_epochs", str(self.epochs)]
        # As published the last weights are those that are used: nothing is selected.
        folder = self.multi_task(task, seed)
        return Job(folder, tuple(words), ("--ckpt_path", str(folder / "checkpoints" / "last.ckpt")))

    def _few(self, task: str, seed: int, kind: str, method: str, more: tuple[str, ...]) -> list[Job]:
        jobs = []
        for (size, lr), folder in zip(self.grid, self.few(task, seed, kind), strict=True):
            words = [
                f"--tasks+={self.files[task]}",
                *self.common,
                "-c",
                "configs/sampling/k_shot.yaml",
                "-c",
                method,
                *self.more,
                *more,
            ]
            words += ["--data.draw", str(seed), "--seed_everything", str(seed), "--data.batch_size", str(size)]
            words += ["--model.lr", str(lr), "--score", f"{task}.{METRIC[task]}"] if task in METRIC else ["--model.lr", str(lr)]
            words += ["--trainer.max_steps", str(self.steps), "--trainer.max_epochs", "-1"]
            words += ["--trainer.val_check_interval", str(self.steps // 10), "--trainer.check_val_every_n_epoch", "null"]
            jobs.append(Job(folder, tuple(words)))
        return jobs


def _scores(folders: Sequence[Path], task: str, metric: str) -> list[float]:
    """A metric on the held-out task's test rows, in hundredths; the mean of its splits."""
    found = [metrics(folder)["test"]["tasks"] for folder in folders]
    splits = [[result["metrics"][metric] for name, result in tasks.items() if name.partition("/")[0] == task] for tasks in found]
    return [100 * statistics.fmean(scores) for scores in splits]


def interval(values: Sequence[float]) -> str:
    """Mean, sample standard deviation, and the 95 % interval of the mean by Student's t."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    deviation = statistics.stdev(values)
    half = float(student.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values))
    return f"{mean:.1f} ± {deviation:.1f} [{mean - half:.1f}, {mean + half:.1f}]"


def _report(plan: Plan, tasks: Sequence[str]) -> None:
    head = ["task", "metric", *COLUMNS]
    lines = []
    for task in tasks:
        cells = [
            [plan.zero(task)],
            [plan.multi_task(task, seed) for seed in plan.stages()],
            [plan.chosen(task, seed, "pbft") for seed in plan.seeds],
            [plan.chosen(task, seed, "both") for seed in plan.seeds],
            [plan.chosen(task, seed, "finetuning") for seed in plan.seeds],
        ]
        metric = METRIC.get(task, Task.read(plan.files[task]).metrics[0])
        lines.append([task, metric, *[interval(_scores(folders, task, metric)) for folders in cells]])
        if task in PUBLISHED:
            lines.append(["", "published, RoBERTa-large", *PUBLISHED[task]])
        if metric == "f1":  # which a constant answer can make high: 81.2 on MRPC
            lines.append(["", "accuracy", *[interval(_scores(folders, task, "accuracy")) for folders in cells]])
    table = Table(title=f"held-out tasks, {len(plan.seeds)} draws: mean ± std [95 % interval]", title_justify="left")
    for column in head:
        table.add_column(column)
    for line in lines:
        table.add_row(*line)
    Console().print(table)
    written = "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])
    (plan.out / "table.md").write_text(written + "\n", encoding="utf-8")
    (plan.out / "table.json").write_text(json.dumps({"head": head, "lines": lines}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    auto_cli(prompt_kshot, as_positional=False)
