"""What a table's runs found: numbers from `metrics.json` and saved predictions, and from nothing else."""

import json
import math
import statistics
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from experiments.jobs import metrics
from experiments.statistics import Difference, holm, paired_bootstrap, paired_t, permutation, relative_change
from experiments.table import Plan, Run, Search
from mtl.metrics import task_metrics, task_score
from mtl.tasks import Task

MEAN = "mean"


class Against(NamedTuple):
    """A row against the baseline in one column.

    Attributes:
        seeds: The difference in hundredths, seed by seed.
        p: Its p-value, corrected over the row's columns (Holm).
        permutation: P-value of the signs of the seeds' differences.
        rows: The difference over test rows drawn again, of the seeds' mean; None where there are no predictions, or for the
            mean over tasks.
    """

    seeds: Difference
    p: float
    permutation: float
    rows: Difference | None


class Cost(NamedTuple):
    """What a row takes to train, its runs of one seed together, the mean over seeds; None where it is not known.

    Attributes:
        examples: Rows drawn.
        steps: Updates.
        seconds: Wall time of training, its validation included.
        memory: Most bytes used, of its largest run.
        trained: Parameters that are trained.
        total: Parameters.
    """

    examples: float | None
    steps: float | None
    seconds: float | None
    memory: float | None
    trained: float | None
    total: float | None


class Results:
    """Scores of a table's finished runs, in hundredths.

    Args:
        plan: The table's runs.
        folders: Folders of the finished runs, and of the one chosen of each grid.
        failed: For each run that failed the reason.
    """

    def __init__(self, plan: Plan, folders: dict[Run, Path], failed: dict[Run, str]) -> None:
        self.plan, self.folders, self.failed = plan, folders, failed
        self.tasks = {name: Task.read(file) for name, file in plan.files.items()}
        self.columns, self.firsts = list(plan.table.shown), list(plan.table.tasks.values())
        self.rows = [name for name, row in plan.table.rows.items() if row.shown]
        self._found = {run: metrics(folder) for run, folder in folders.items()}

    def seeds(self, row: str) -> Sequence[int]:
        """The seeds of a row."""
        spec = self.plan.table.rows[row]
        return self.plan.seeds if spec.seed is None else (spec.seed,)

    def run(self, row: str, seed: int, column: str) -> Run | None:
        """The run that a row's score in a column is of; None where it is not finished."""
        of = self.plan.table.rows[row].of
        task = self.plan.table.shown[column][0] if column != MEAN else None
        return next(
            (run for run in self.folders if run[:2] == (row, seed) and run.task == (None if of == "suite" else task)), None
        )

    def score(self, row: str, seed: int, column: str) -> float | None:
        """A task's score, or the metric that the table shows of it; the mean of its splits."""
        if column == MEAN:
            return self.mean(row, seed)
        splits = self._splits(row, seed, column)
        wanted = self.plan.table.shown[column][1]
        scores = [split["metrics"][wanted] if wanted else split["score"] for split in splits.values()]
        return 100 * statistics.fmean(scores) if scores else None

    def mean(self, row: str, seed: int) -> float | None:
        """The suite's own score where it has one, else the mean over tasks, of each its first column."""
        if suite := self.plan.table.score:
            found = {name: split["metrics"] for column in self.firsts for name, split in self._splits(row, seed, column).items()}
            return 100 * suite(found) if {task for task, _ in suite.metrics} <= set(found) else None
        scores = [self.score(row, seed, column) for column in self.firsts]
        known = [score for score in scores if score is not None]
        return statistics.fmean(known) if len(known) == len(scores) else None

    def scores(self, row: str, column: str) -> list[float]:
        """The scores of all seeds that are there."""
        return [score for seed in self.seeds(row) if (score := self.score(row, seed, column)) is not None]

    @cached_property
    def against(self) -> dict[tuple[str, str], Against]:
        """For each row and column the comparison with the baseline, where there are seeds of both."""
        found = {}
        for row in self.rows:
            if row == self.plan.table.baseline:
                continue
            other = self.other(row)
            pairs = {column: self._pairs(row, other, column) for column in (*self.columns, MEAN)}
            known = {column: pair for column, pair in pairs.items() if pair[0]}
            differences = {column: paired_t(*pair) for column, pair in known.items()}
            corrected = dict(zip(differences, holm([difference.p for difference in differences.values()]), strict=True))
            for column, pair in known.items():
                rows = self._over_rows(row, other, column) if column != MEAN else None
                found[row, column] = Against(differences[column], corrected[column], permutation(*pair), rows)
        return found

    def other(self, row: str) -> str:
        """The row that one is compared with."""
        return self.plan.table.rows[row].against or self.plan.table.baseline

    def change(self, row: str) -> float:
        """The mean over tasks of the change against the baseline, in per cent of it."""
        ours, theirs = ([self.scores(name, column) for column in self.firsts] for name in (row, self.plan.table.baseline))
        if not all(ours) or not all(theirs):
            return math.nan
        return relative_change([statistics.fmean(scores) for scores in ours], [statistics.fmean(scores) for scores in theirs])

    def wins(self, row: str) -> tuple[int, int]:
        """Tasks in which a row is better than the baseline, and in which it is worse."""
        found = [self.against[row, column].seeds.mean for column in self.firsts if (row, column) in self.against]
        return sum(mean > 0 for mean in found), sum(mean < 0 for mean in found)

    def cost(self, row: str) -> Cost:
        """What the row takes, the runs that it starts from included."""
        by_seed = []
        for seed in self.seeds(row):
            runs = {run for run in self.folders if run[:2] == (row, seed)}
            whole = runs | {
                other for run in runs for used in self.plan.used(run).values() for other in used if other in self.folders
            }
            by_seed.append([self._cost(whole), self._cost(runs)])

        def mean(place: int, which: int = 0) -> float | None:
            values = [costs[which][place] for costs in by_seed if costs[which][place] is not None]
            return statistics.fmean(values) if values else None  # type: ignore[arg-type]

        # The parameters are those of the models that one ends with.
        return Cost(mean(0), mean(1), mean(2), mean(3), mean(4, 1), mean(5, 1))

    def why_not(self, row: str) -> str:
        """Why a row has no score in a column."""
        return "failed" if any(run.row == row for run in self.failed) else "not run"

    def tested(self, column: str) -> int | None:
        """Test rows of a column, its splits together; None where nothing was tested yet."""
        for row in self.rows:
            for seed in self.seeds(row):
                if splits := self._splits(row, seed, column):
                    return sum(int(split["rows"]) for split in splits.values())
        return None

    def notes(self) -> list[str]:
        """What a reader has to know: mixtures of versions, code or rows, budgets that differ, runs that failed."""
        notes = []
        shown = {run: found for run, found in self._found.items() if found}
        for what in ("versions", "code", "precision", "device"):
            kinds = {
                json.dumps(part[what], sort_keys=True)
                for found in shown.values()
                for part in (found, found.get("test", {}))
                if what in part
            }
            if len(kinds) > 1:
                notes.append(f"MIXED {what}: the runs are of {len(kinds)} kinds: {'; '.join(sorted(kinds))}")
        data: dict[str, set[str]] = {}
        for found in shown.values():
            for split, fingerprint in found.get("data", {}).items():
                data.setdefault(split, set()).add(fingerprint)
        notes += [f"MIXED data: {split} had other rows in some runs" for split, kinds in data.items() if len(kinds) > 1]
        base = self.cost(self.plan.table.baseline).examples
        for row in self.rows:
            examples = self.cost(row).examples
            if base and examples and abs(examples / base - 1) > 0.05:
                notes.append(f"{row}: drew {examples:,.0f} rows a seed, {self.plan.table.baseline} {base:,.0f}")
        if search := self.plan.size.search:
            chosen = [f"{name} {_chosen(row.grid, search)}" for name, row in self.plan.table.rows.items() if row.command == "fit"]
            notes.append(f"of each row {search.trials} trials with seed {self.plan.seeds[0]}; taken: {'; '.join(chosen)}")
        selected = sorted({task for found in shown.values() for task in found.get("test", {}).get("selected_on_test", [])})
        if selected:
            notes.append(f"the rows tested also selected the checkpoint of {', '.join(selected)}")
        notes += [
            f"FAILED: {run.row}, seed {run.seed}{f', {run.task}' if run.task else ''}: {why}" for run, why in self.failed.items()
        ]
        return notes

    def _splits(self, row: str, seed: int, column: str) -> dict[str, Any]:
        run = self.run(row, seed, column)
        tasks = self._found[run].get("test", {}).get("tasks", {}) if run else {}
        return {name: split for name, split in tasks.items() if name.partition("/")[0] == self.plan.table.shown[column][0]}

    def _pairs(self, row: str, other: str, column: str) -> tuple[list[float], list[float]]:
        """Scores of both rows, seed by seed; a row with one seed for all is compared with each."""
        pairs = []
        for seed in self.plan.seeds:
            ours, theirs = (self._of(name, seed, column) for name in (row, other))
            if ours is not None and theirs is not None:
                pairs.append((ours, theirs))
        return [one for one, _ in pairs], [other for _, other in pairs]

    def _of(self, row: str, seed: int, column: str) -> float | None:
        own = self.plan.table.rows[row].seed
        return self.score(row, seed if own is None else own, column)

    def _over_rows(self, row: str, other: str, column: str) -> Difference | None:
        """The difference in hundredths when the test rows are drawn again; the mean of the seeds' metric."""
        ours, theirs = (self._predictions(name, column) for name in (row, other))
        if not ours or not theirs or not all(torch.equal(labels, ours[0][0]) for labels, _ in (*ours, *theirs)):
            return None
        name, wanted = self.plan.table.shown[column]
        task = self.tasks[name]
        names = [wanted] if wanted else list(task.metrics)

        def measure(models: list[tuple[torch.Tensor, torch.Tensor]]) -> Any:
            if names == ["accuracy"]:
                right = np.mean([(outputs.argmax(1) == labels).numpy() for labels, outputs in models], 0)
                return lambda at: 100 * float(right[at].mean())

            def of(at: Any) -> float:
                places = torch.from_numpy(at)
                scores = [task_metrics(task, outputs[places], labels[places]) for labels, outputs in models]
                return 100 * statistics.fmean(task_score({name: score[name] for name in names}) for score in scores)

            return of

        return paired_bootstrap(measure(ours), measure(theirs), len(ours[0][0]), draws=1000 if names == ["accuracy"] else 200)

    def _predictions(self, row: str, column: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Labels (rows,) and outputs (rows, classes), or values (rows, 1), of each seed, the splits one after the other."""
        task, found = self.tasks[self.plan.table.shown[column][0]], []
        for seed in self.seeds(row):
            run = self.run(row, seed, column)
            files = (
                [
                    self.folders[run] / "predictions" / "test" / f"{name.replace('/', '-')}.jsonl"
                    for name in self._splits(row, seed, column)
                ]
                if run
                else []
            )
            if not files or not all(file.is_file() for file in files):
                continue
            lines = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
            if task.regression:
                outputs = torch.tensor([[line["prediction"]] for line in lines])
                labels = torch.tensor([line["label"] for line in lines])
            else:
                outputs = torch.tensor([[line["probabilities"][name] for name in task.classes] for line in lines])
                labels = torch.tensor([task.classes.index(line["label"]) for line in lines])
            found.append((labels, outputs))
        return found

    def _cost(self, runs: set[Run]) -> Cost:
        found = [self._found[run] for run in runs]

        def total(*names: str) -> float | None:
            values = []
            for record in found:
                value: Any = record
                for name in names:
                    value = value.get(name) if isinstance(value, dict) else None
                if isinstance(value, dict):
                    value = sum(value.values())
                values += [value] if value is not None else []
            return float(sum(values)) if values else None

        memory = [record["memory"] for record in found if record.get("memory")]
        return Cost(
            total("examples"),
            total("steps"),
            total("seconds"),
            max(memory, default=None),
            total("parameters", "trained"),
            total("parameters", "total"),
        )


def _chosen(grid: dict[str, list[Any] | str], search: Search) -> str:
    return ", ".join(
        f"{option} {values[0]:.3g}" if isinstance(values[0], float) else f"{option} {values[0]}"
        for option, values in grid.items()
        if option in search.space
    )
