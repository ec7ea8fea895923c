"""What a table's runs found: numbers from `metrics.json` and saved predictions, and from nothing else."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from experiments.bootstrap import Predictions, predictions, scores_drawn_again
from experiments.jobs import metrics
from experiments.plan import Plan, Run
from experiments.statistics import (
    Difference,
    Floats,
    holm,
    paired_bootstrap,
    paired_t,
    permutation,
    relative_change,
)
from experiments.table import MEAN, Search
from mtl.tasks import Task

Seeds = tuple[int, ...]


class Against(NamedTuple):
    """A row against the one that it is compared with, in one column; p-values are corrected over the row's columns (Holm).

    Attributes:
        seeds: The difference in hundredths, seed by seed, by Student's t.
        permutation: P-value of the signs of the seeds' differences.
        rows: The difference when the test rows are drawn again, of the seeds' mean; None where there are no predictions.
        relative: The difference in per cent of the other's score; NaN where that is 0 or less.
    """

    seeds: Difference
    permutation: float
    rows: Difference | None
    relative: float


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
        self._drawn_already: dict[tuple[str, str, Seeds], Floats | None] = {}
        self._read_already: dict[tuple[str, str, int], Predictions | None] = {}

    @property
    def whole(self) -> bool:
        """Whether every row has a score of every seed."""
        return all(len(self.scores(row, MEAN)) == len(self.seeds(row)) for row in self.rows)

    def seeds(self, row: str) -> Sequence[int]:
        """The seeds of a row."""
        spec = self.plan.table.rows[row]
        return self.plan.seeds if spec.seed is None else (spec.seed,)

    def run(self, row: str, seed: int, column: str) -> Run | None:
        """The run that a row's score in a column is of; None where it is not finished."""
        of = self.plan.table.rows[row].of
        task = self.plan.table.shown[column][0] if column != MEAN else None
        return next(
            (
                run
                for run in self.folders
                if run[:2] == (row, seed) and run.task == (None if of == "suite" else task)
            ),
            None,
        )

    def score(self, row: str, seed: int, column: str) -> float | None:
        """A task's score, or the metric that the table shows of it; the mean of its splits."""
        if column == MEAN:
            return self.mean(row, seed)
        splits = self._splits(row, seed, column)
        wanted = self.plan.table.shown[column][1]
        scores = [
            split["metrics"][wanted] if wanted else split["score"] for split in splits.values()
        ]
        return 100 * statistics.fmean(scores) if scores else None

    def mean(self, row: str, seed: int) -> float | None:
        """The suite's own score where it has one, else the mean over tasks, of each its first column."""
        if suite := self.plan.table.score:
            found = {
                name: split["metrics"]
                for column in self.firsts
                for name, split in self._splits(row, seed, column).items()
            }
            return 100 * suite(found) if {task for task, _ in suite.metrics} <= set(found) else None
        scores = [self.score(row, seed, column) for column in self.firsts]
        known = [score for score in scores if score is not None]
        return statistics.fmean(known) if len(known) == len(scores) else None

    def scores(self, row: str, column: str) -> list[float]:
        """The scores of all seeds that are there."""
        return [
            score
            for seed in self.seeds(row)
            if (score := self.score(row, seed, column)) is not None
        ]

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
            seeds = {column: paired_t(*pair) for column, pair in known.items()}
            signs = {column: permutation(*pair) for column, pair in known.items()}
            rows = {column: of for column in known if (of := self._over_rows(row, other, column))}
            seeds = {
                name: of._replace(p=p)
                for (name, of), p in zip(
                    seeds.items(), holm([of.p for of in seeds.values()]), strict=True
                )
            }
            signs = dict(zip(signs, holm(list(signs.values())), strict=True))
            rows = {
                name: of._replace(p=p)
                for (name, of), p in zip(
                    rows.items(), holm([of.p for of in rows.values()]), strict=True
                )
            }
            for column, (ours, theirs) in known.items():
                change = relative_change([statistics.fmean(ours)], [statistics.fmean(theirs)])
                found[row, column] = Against(seeds[column], signs[column], rows.get(column), change)
        return found

    def other(self, row: str) -> str:
        """The row that one is compared with."""
        return self.plan.table.rows[row].against or self.plan.table.baseline

    def change(self, row: str) -> float:
        """The mean over tasks of the change against the baseline, in per cent of it, over the seeds that both have."""
        pairs = [self._pairs(row, self.plan.table.baseline, column) for column in self.firsts]
        if not all(ours for ours, _ in pairs):
            return math.nan
        return relative_change(
            [statistics.fmean(ours) for ours, _ in pairs],
            [statistics.fmean(other) for _, other in pairs],
        )

    def wins(self, row: str) -> tuple[int, int]:
        """Tasks in which a row is better than the baseline, and in which it is worse."""
        found = [
            self.against[row, column].seeds.mean
            for column in self.firsts
            if (row, column) in self.against
        ]
        return sum(mean > 0 for mean in found), sum(mean < 0 for mean in found)

    def cost(self, row: str) -> Cost:
        """What the row takes, the runs that it starts from included; seeds of which a run is missing do not count."""
        by_seed = []
        for seed in self.seeds(row):
            runs = {run for run in self.folders if run[:2] == (row, seed)}
            if len(runs) < len({run.task for run in self.plan.runs(row)}):
                continue
            whole = runs | {
                other for run in runs for other in self.plan.all_needs(run) if other in self.folders
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

    def versions(self) -> dict[str, str]:
        """Versions of the libraries of the first finished run; `notes` tell of mixtures."""
        return next(
            (found["versions"] for found in self._found.values() if "versions" in found), {}
        )

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
                notes.append(
                    f"MIXED {what}: the runs are of {len(kinds)} kinds: {'; '.join(sorted(kinds))}"
                )
        if made := next(iter(shown.values()), None):
            libraries = ", ".join(
                f"{name} {version}" for name, version in made.get("versions", {}).items()
            )
            notes.append(
                f"{libraries}; code {made.get('code', '')}; what each run's rows were stands in its metrics.json"
            )
        data: dict[str, set[str]] = {}
        for found in shown.values():
            for split, fingerprint in found.get("data", {}).items():
                data.setdefault(split, set()).add(fingerprint)
        notes += [
            f"MIXED data: {split} had other rows in some runs"
            for split, kinds in data.items()
            if len(kinds) > 1
        ]
        base = self.cost(self.plan.table.baseline).examples
        for row in self.rows:
            examples = self.cost(row).examples
            if base and examples and abs(examples / base - 1) > 0.05:
                notes.append(
                    f"{row}: drew {examples:,.0f} rows a seed, {self.plan.table.baseline} {base:,.0f}"
                )
        if search := self.plan.size.search:
            chosen = [
                f"{name} {_chosen(row.grid, search)}"
                for name, row in self.plan.table.rows.items()
                if row.command == "fit"
            ]
            notes.append(
                f"of each row {search.trials} trials with seed {self.plan.seeds[0]}; taken: {'; '.join(chosen)}"
            )
        selected = sorted(
            {
                task
                for found in shown.values()
                for task in found.get("test", {}).get("selected_on_test", [])
            }
        )
        if selected:
            notes.append(f"the rows tested also selected the checkpoint of {', '.join(selected)}")
        return [*notes, *self.failures()]

    def failures(self) -> list[str]:
        """A line for each run that failed: its log, and what the command said last."""
        return [f"FAILED: {run}: {why}{_last_error(Path(why))}" for run, why in self.failed.items()]

    def _splits(self, row: str, seed: int, column: str) -> dict[str, Any]:
        run = self.run(row, seed, column)
        tasks = self._found[run].get("test", {}).get("tasks", {}) if run else {}
        return {
            name: split
            for name, split in tasks.items()
            if name.partition("/")[0] == self.plan.table.shown[column][0]
        }

    def _pairs(self, row: str, other: str, column: str) -> tuple[list[float], list[float]]:
        """Scores of both rows, seed by seed; a row with one seed for all is compared with each."""
        pairs = []
        for one, another in self._paired(row, other):
            ours, theirs = self.score(row, one, column), self.score(other, another, column)
            if ours is not None and theirs is not None:
                pairs.append((ours, theirs))
        return [one for one, _ in pairs], [other for _, other in pairs]

    def _paired(self, row: str, other: str) -> list[tuple[int, int]]:
        """The seeds that are compared, the row's own and the other's; two rows with one seed each are one pair."""
        ours, theirs = (self.plan.table.rows[name].seed for name in (row, other))
        if ours is not None and theirs is not None:
            return [(ours, theirs)]
        return [
            (seed if ours is None else ours, seed if theirs is None else theirs)
            for seed in self.plan.seeds
        ]

    def _over_rows(self, row: str, other: str, column: str) -> Difference | None:
        """The difference in hundredths when the test rows are drawn again, of every task apart; None where rows differ.

        Of the seeds that both rows have, of every task that counts.
        """
        columns = self.firsts if column == MEAN else [column]
        pairs = [
            pair
            for pair in self._paired(row, other)
            if all(self._both(row, other, pair, name) for name in columns)
        ]
        if not pairs:
            return None
        ours, theirs = (tuple(dict.fromkeys(seeds)) for seeds in zip(*pairs, strict=True))
        for name in columns:
            models = [*self._predictions(row, name, ours), *self._predictions(other, name, theirs)]
            if len(models) < len(ours) + len(theirs) or not all(
                torch.equal(models[0].labels, each.labels) for each in models
            ):
                return None
        found = [self._drawn(row, column, ours), self._drawn(other, column, theirs)]
        return paired_bootstrap(*found) if found[0] is not None else None  # type: ignore[arg-type]

    def _both(self, row: str, other: str, seeds: tuple[int, int], column: str) -> bool:
        return all(
            self.score(name, seed, column) is not None
            for name, seed in zip((row, other), seeds, strict=True)
        )

    def _drawn(self, row: str, column: str, seeds: Seeds) -> Floats | None:
        """A row's score in a column, of all test rows and of those drawn again, the mean over seeds, shape (1 + draws,)."""
        key = (row, column, seeds)
        if key not in self._drawn_already:
            self._drawn_already[key] = self._draw(row, column, seeds)
        return self._drawn_already[key]

    def _draw(self, row: str, column: str, seeds: Seeds) -> Floats | None:
        if column != MEAN:
            task, wanted = self.plan.table.shown[column]
            return self._scores_drawn(
                row, task, [wanted] if wanted else self.tasks[task].metrics, seeds
            )
        if (suite := self.plan.table.score) is None:
            return np.mean([self._drawn(row, name, seeds) for name in self.firsts], 0)  # type: ignore[ arg-type]
        if any(task not in self.plan.table.tasks for task, _ in suite.metrics):
            return None  # of one split of a task's
        drawn = {
            (task, metric): self._scores_drawn(row, task, [metric], seeds)
            for task, metric in suite.metrics
        }
        values = zip(*drawn.values(), strict=True)
        return np.array([100 * suite(_by_task(drawn, of)) for of in values])

    def _scores_drawn(self, row: str, task: str, metrics: Sequence[str], seeds: Seeds) -> Floats:
        return scores_drawn_again(
            self.tasks[task], metrics, self._predictions(row, self.plan.table.tasks[task], seeds)
        )

    def _predictions(self, row: str, column: str, seeds: Seeds) -> list[Predictions]:
        """What the runs of some seeds said of a column's test rows; without those that have not saved it."""
        found = []
        for seed in seeds:
            if (row, column, seed) not in self._read_already:
                self._read_already[row, column, seed] = self._read(row, column, seed)
            found += [said] if (said := self._read_already[row, column, seed]) else []
        return found

    def _read(self, row: str, column: str, seed: int) -> Predictions | None:
        run, task = self.run(row, seed, column), self.tasks[self.plan.table.shown[column][0]]
        if run is None:
            return None
        folder = self.folders[run] / "predictions" / "test"
        return predictions(
            task,
            tuple(
                folder / f"{name.replace('/', '-')}.jsonl"
                for name in self._splits(row, seed, column)
            ),
        )

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


def _by_task(
    names: Iterable[tuple[str, str]], values: Iterable[float]
) -> dict[str, dict[str, float]]:
    """Metrics by task and name, from hundredths."""
    found: dict[str, dict[str, float]] = {}
    for (task, metric), value in zip(names, values, strict=True):
        found.setdefault(task, {})[metric] = value / 100
    return found


def _last_error(log: Path) -> str:
    """What a run's log says of why it failed; empty where the reason is no log."""
    lines = (
        log.read_text(encoding="utf-8", errors="replace").splitlines()
        if log.suffix == ".log" and log.is_file()
        else []
    )
    said = [line for line in lines if line.startswith("mtl: error: ")]
    return f": {said[-1].removeprefix('mtl: error: ')}" if said else ""


def _chosen(grid: dict[str, list[Any] | str], search: Search) -> str:
    return ", ".join(
        f"{option} {values[0]:.3g}" if isinstance(values[0], float) else f"{option} {values[0]}"
        for option, values in grid.items()
        if option in search.space
    )
