"""Does meta fine-tuning help the domains of a group? Its three stages, and what the paper compares it with.

Rows of the table: each domain alone; all rows in one model that knows no domains; a head for each domain; domain-adversarial
training; and meta fine-tuning with the domain-corruption loss alone, with the scores alone, and whole, each followed by
fine-tuning on every domain. So that the three stages are not compared with less training, the one-stage rows train for the
epochs of both stages, and `mix, then fine-tuned` has the same two stages without what is new in meta fine-tuning.

Source: Wang et al. 2020 (MFT), section 4; specification B3, B6, B7.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import yaml
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from experiments.jobs import Job, fast_precision, metrics, run_all
from experiments.prompt_kshot import interval
from mtl.tasks import Task

# Suites of the groups, and options that they need: where test rows would select, training rows are set aside.
GROUPS = {
    "g1": ("mft_g1", ("--data.holdout", "0.1")),
    "g1_release": ("mft_g1_release", ()),
    "g2": ("mft_g2", ("--data.holdout", "0.1")),
    "g3": ("mft_g3", ("--data.holdout", "0.1")),
    "mnli": ("mnli_genres", ("--data.holdout", "0.1")),
    "amazon": ("amazon", ("--data.holdout", "0.1")),
}
ONE_STAGE = {"mix": "joint", "multi-head": "multi_head", "adversarial": "domain_adversarial"}
TWO_STAGES = {"mix, then fine-tuned": "joint", "MFT (DC)": "mft_domain_only", "MFT (TW)": "mft_weights_only", "MFT": "mft"}
ROWS = ("single", *ONE_STAGE, *TWO_STAGES)
# BERT-base, as recalled from the paper and not verified: telephone, government, slate, travel, fiction; book, DVD, ....
PUBLISHED: dict[str, dict[str, tuple[float, ...]]] = {
    "mnli_genres": {
        "single": (82.5, 84.9, 78.2, 83.1, 82.0),
        "mix": (83.1, 85.2, 79.3, 85.1, 82.4),
        "multi-head": (83.8, 86.1, 80.2, 85.2, 83.6),
        "adversarial": (81.9, 84.2, 79.8, 82.0, 82.2),
        "MFT (DC)": (84.2, 86.3, 80.2, 85.8, 84.0),
        "MFT (TW)": (83.8, 86.5, 81.3, 83.7, 84.4),
        "MFT": (84.6, 86.3, 81.5, 85.4, 84.6),
    },
    "amazon": {
        "single": (90.7, 88.2, 89.0, 85.7),
        "mix": (91.8, 89.4, 87.8, 88.4),
        "multi-head": (92.2, 89.0, 88.3, 88.2),
        "adversarial": (89.3, 87.4, 86.5, 86.7),
        "MFT (DC)": (90.6, 89.4, 92.5, 88.7),
        "MFT (TW)": (90.4, 88.9, 94.5, 89.1),
        "MFT": (91.2, 88.8, 94.8, 89.2),
    },
}


class Stage(NamedTuple):
    """Training of one stage, the same for every row of the table.

    Attributes:
        epochs: Passes over the rows.
        batch_size: Rows in a step.
        lr: Highest learning rate.
    """

    epochs: int
    batch_size: int
    lr: float


def mft(
    group: Literal["g1", "g1_release", "g2", "g3", "mnli", "amazon"] = "amazon",
    fine_tuned: list[Path] | None = None,
    backbone: str = "bert-base-uncased",
    seeds: tuple[int, ...] = (1, 2, 3),
    rows: list[str] | None = None,
    meta: Stage = Stage(2, 32, 1e-5),
    fine: Stage = Stage(6, 32, 1e-5),
    precision: str | None = None,
    options: list[str] | None = None,
    fine_options: list[str] | None = None,
    out: Path = Path("runs/mft"),
    jobs: int | None = None,
) -> None:
    """Runs what is missing of a group's table and prints it.

    Args:
        group: The domains: g1 (SST-2, MR, CR), g1 as the release has it (16 rows of each class), g2 (MNLI, SNLI), g3 (MRPC,
            QQP), the five genres of MNLI, or Amazon's four.
        fine_tuned: Task files of the last stage; the group's own where absent.
        backbone: The pretrained encoder.
        seeds: Seeds of the runs.
        rows: Rows of the table; all where absent.
        meta: Training on the group; as in the authors' release where absent.
        fine: Training on each domain.
        precision: Lightning's name of a precision; bf16-mixed where the machine computes in bf16, else 32-true.
        options: Options of all commands, such as `[--data.root, data, --data.max_rows, 400]`.
        fine_options: Options of training on one domain.
        out: Folder of the runs and the table, under which the group has its own.
        jobs: Runs at a time; all cores of a machine without a GPU, one on a GPU.
    """
    chosen = rows or list(ROWS)
    if unknown := [row for row in chosen if row not in ROWS]:
        sys.exit(f"mft: there is no row {unknown[0]!r}; rows are {', '.join(ROWS)}")
    name, own = GROUPS[group]
    suite = Path("configs/suites") / f"{name}.yaml"
    domains = fine_tuned or [suite.parent / name for name in yaml.safe_load(suite.read_text(encoding="utf-8"))["tasks"]]
    common = ("--backbone", backbone, *own, *(options or ()))
    plan = Plan(suite, domains, common, tuple(fine_options or ()), precision or fast_precision(), out / name, meta, fine)
    if {"MFT", "MFT (TW)"} & set(chosen) and not (plan.scores / "scores.json").exists():
        score = ["score-prototypes", "-c", str(suite), *common, "--trainer.precision", plan.precision, "--out", str(plan.scores)]
        subprocess.run([sys.executable, "-m", "mtl", *score], check=True)
    for stage in (plan.first(chosen, seeds), plan.second(chosen, seeds)):
        if failed := run_all(list(stage), jobs):
            sys.exit("\n".join(f"mft: {job.out} failed; its log is {job.out}.log" for job in failed))
    report(plan, chosen, seeds)


class Plan:
    """The runs of a group's table, and where they are.

    Args:
        suite: The group.
        domains: Task files of training on one domain.
        common: Options of every command.
        fine_options: Options of training on one domain.
        precision: Lightning's name of a precision.
        out: Folder of the runs.
        meta: Training on the group.
        fine: Training on each domain.
    """

    def __init__(
        self,
        suite: Path,
        domains: Sequence[Path],
        common: tuple[str, ...],
        fine_options: tuple[str, ...],
        precision: str,
        out: Path,
        meta: Stage,
        fine: Stage,
    ) -> None:
        self.suite, self.domains, self.out, self.meta, self.fine = suite, domains, out, meta, fine
        self.common, self.fine_options, self.precision = common, fine_options, precision
        self.scores = out / "scores"
        self.own = [suite.parent / name for name in yaml.safe_load(suite.read_text(encoding="utf-8"))["tasks"]] == list(domains)

    def first(self, rows: Sequence[str], seeds: Sequence[int]) -> Iterator[Job]:
        """What needs no other run."""
        for seed in seeds:
            for row in rows:
                if row == "single":
                    long = self.fine._replace(epochs=self.meta.epochs + self.fine.epochs)
                    yield from self._domains(row, seed, long, ())
                elif row in ONE_STAGE:
                    yield self._group(row, seed, self.meta._replace(epochs=self.meta.epochs + self.fine.epochs), self.own)
                else:
                    yield self._group(row, seed, self.meta, tested=False)

    def second(self, rows: Sequence[str], seeds: Sequence[int]) -> Iterator[Job]:
        """What starts from a model of the group."""
        for seed in seeds:
            for row in rows:
                if row in TWO_STAGES:
                    start = ("--model.init_from", str(self.of_group(row, seed)))
                    yield from self._domains(row, seed, self.fine, start)

    def of_group(self, row: str, seed: int) -> Path:
        """Folder of a run on the group."""
        return self.out / f"{_plain(row)}-{seed}"

    def of_domain(self, row: str, seed: int, domain: Path) -> Path:
        """Folder of a run on a domain."""
        return self.out / f"{_plain(row)}-{seed}-{domain.stem}"

    def score(self, row: str, seed: int, domain: Path) -> float | None:
        """Accuracy on a domain's test rows, in hundredths; None where the row is not tested on it."""
        folder = self.of_group(row, seed) if row in ONE_STAGE else self.of_domain(row, seed, domain)
        name, tasks = Task.read(domain).name, metrics(folder).get("test", {}).get("tasks", {})
        return 100 * float(tasks[name]["score"]) if name in tasks else None

    def _group(self, row: str, seed: int, stage: Stage, tested: bool) -> Job:
        method = (ONE_STAGE | TWO_STAGES)[row]
        words = ["-c", str(self.suite), "-c", "configs/sampling/sequential.yaml", "-c", f"configs/methods/{method}.yaml"]
        words += ["--model.pooling", "pooler", *self.common, *self._trained(stage, seed)]
        words += ["--model.scores", str(self.scores)] if row in ("MFT", "MFT (TW)") else []
        return Job(self.of_group(row, seed), tuple(words), tested=tested)

    def _domains(self, row: str, seed: int, stage: Stage, more: tuple[str, ...]) -> Iterator[Job]:
        for domain in self.domains:
            words = [f"--tasks+={domain}", "--model", "MultiHead", "--model.pooling", "pooler", *self.common, *self.fine_options]
            yield Job(self.of_domain(row, seed, domain), (*words, *self._trained(stage, seed), *more))

    def _trained(self, stage: Stage, seed: int) -> list[str]:
        # The best of about ten evaluations is kept, whatever the number of epochs.
        words = ["--trainer.max_epochs", str(stage.epochs), "--trainer.check_val_every_n_epoch", str(max(1, stage.epochs // 10))]
        words += ["--data.batch_size", str(stage.batch_size), "--model.lr", str(stage.lr), "--seed_everything", str(seed)]
        return [*words, "--trainer.precision", self.precision]


def report(plan: Plan, rows: Sequence[str], seeds: Sequence[int]) -> None:
    """Prints the table and writes it: mean and deviation over seeds, and each row's difference from `single` seed by seed."""
    names = [Task.read(domain).name for domain in plan.domains]
    head = ["row", *names, "mean", "minus single, seed by seed [95 %]"]
    means: dict[str, list[float]] = {}
    lines = []
    published: Mapping[str, Sequence[float]] = PUBLISHED.get(plan.suite.stem, {})
    for row in rows:
        found = [[plan.score(row, seed, domain) for domain in plan.domains] for seed in seeds]
        scores = [[score for score in line if score is not None] for line in found]
        if any(len(line) < len(names) for line in scores):  # one model of the group, and the domains tested are others
            continue
        means[row] = [statistics.fmean(line) for line in scores]
        alone = means.get("single")
        differences = [one - other for one, other in zip(means[row], alone, strict=True)] if alone and row != "single" else []
        cells = [_spread(column) for column in (*zip(*scores, strict=True), means[row])]
        lines.append([row, *cells, interval(differences) if differences else ""])
        if row in published:
            figures = [*published[row], statistics.fmean(published[row])]
            lines.append(["  published, BERT-base (unverified)", *(f"{figure:.1f}" for figure in figures), ""])
    title = f"{plan.suite.stem}, accuracy on test rows, mean ± std over {len(seeds)} seeds"
    table = Table(title=title, title_justify="left")
    for column in head:
        table.add_column(column)
    for line in lines:
        table.add_row(*line)
    Console().print(table)
    written = "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])
    (plan.out / "table.md").write_text(f"{title}\n\n{written}\n", encoding="utf-8")
    (plan.out / "table.json").write_text(json.dumps({"head": head, "lines": lines}, indent=2) + "\n", encoding="utf-8")


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def _plain(row: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in row.lower())


if __name__ == "__main__":
    auto_cli(mft, as_positional=False)
