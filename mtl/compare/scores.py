"""Scores of a table's finished runs, read from the `metrics.json` of each run."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl.compare.definition import MEAN
from mtl.compare.jobs import read_results
from mtl.compare.plan import Plan
from mtl.compare.run_spec import RunSpec, split_group
from mtl.tasks import Task


class Scores:
    """Scores of a table's finished runs, in hundredths.

    Args:
        plan: The table's runs.
        folders: Folders of the finished runs; of a grid, of the run that was chosen.
        tuning: Folders of the runs that only served to choose options.

    Attributes:
        tasks: The tasks by name.
        columns: Names of the columns, without the mean.
        main_columns: Names of the columns that enter the mean: the first one of each task.
        rows: Names of the rows that are shown.
        records: The contents of each run's `metrics.json`.
        tuning: The same of the runs that only served to choose options.
    """

    def __init__(
        self, plan: Plan, folders: dict[RunSpec, Path], tuning: dict[RunSpec, Path] | None = None
    ) -> None:
        self.plan, self.folders = plan, folders
        self.tasks = {name: Task.read(file) for name, file in plan.task_files.items()}
        self.columns = list(plan.experiment.shown_columns)
        self.main_columns = list(plan.experiment.main_columns.values())
        self.rows = [name for name, row in plan.experiment.rows.items() if row.shown]
        self.records = {run: read_results(folder) for run, folder in folders.items()}
        self.tuning = {run: read_results(folder) for run, folder in (tuning or {}).items()}

    @property
    def complete(self) -> bool:
        """Whether every row has a score for every seed."""
        return all(len(self.scores(row, MEAN)) == len(self.seeds(row)) for row in self.rows)

    def seeds(self, row: str) -> Sequence[int]:
        """The seeds of a row."""
        return self.plan.row_seeds(row)

    def run(self, row: str, seed: int, column: str) -> RunSpec | None:
        """The run that a score comes from; None if it is not finished.

        Of several groups that contain the task, the run with its best validation score.
        """
        task = None if column == MEAN else self.plan.experiment.shown_columns[column].task
        needed = [
            each for each in self.plan.row_tasks(row) if each is None or task in split_group(each)
        ]
        runs = [
            run for run in self.folders if (run.row, run.seed) == (row, seed) and run.task in needed
        ]
        if len(runs) < len(needed) or not runs:
            return None
        return runs[0] if len(runs) == 1 else max(runs, key=lambda run: self._validated(run, task))

    def _validated(self, run: RunSpec, task: str | None) -> float:
        """The validation score of a run's task: the mean over its splits."""
        splits = self.records[run]["validation"]["tasks"].items()
        return statistics.fmean(
            split["score"] for name, split in splits if name.partition("/")[0] == task
        )

    def score(self, row: str, seed: int, column: str) -> float | None:
        """The score of a cell for one seed: the mean over the task's splits.

        None if there is none.
        """
        if column == MEAN:
            return self.mean(row, seed)
        metric = self.plan.experiment.shown_columns[column].metric
        scores = [
            split["metrics"][metric] if metric else split["score"]
            for split in self.splits(row, seed, column).values()
        ]
        return 100 * statistics.fmean(scores) if scores else None

    def mean(self, row: str, seed: int) -> float | None:
        """The suite's own score; if the suite defines none, the mean over the main columns."""
        if suite_score := self.plan.experiment.suite_score:
            values = {
                name: split["metrics"]
                for column in self.main_columns
                for name, split in self.splits(row, seed, column).items()
            }
            needed = {task for task, _ in suite_score.metrics}
            return 100 * suite_score(values) if needed <= set(values) else None
        scores = [self.score(row, seed, column) for column in self.main_columns]
        known = [score for score in scores if score is not None]
        return statistics.fmean(known) if len(known) == len(scores) else None

    def scores(self, row: str, column: str) -> list[float]:
        """The scores of a cell for all seeds that have one."""
        scores = [self.score(row, seed, column) for seed in self.seeds(row)]
        return [score for score in scores if score is not None]

    @property
    def label_groups(self) -> list[str]:
        """Names of the label groups that runs score as a whole, such as `intent + slots`."""
        groups = [name for record in self.records.values() for name in _all_correct(record)]
        return list(dict.fromkeys(groups))

    def all_correct(self, row: str, group: str) -> list[float]:
        """For each seed the share of texts whose labels of a group are all right.

        Empty for rows that train the tasks of the group in runs of their own.
        """
        shares = [
            _all_correct(self.records[run]).get(group)
            for seed in self.seeds(row)
            for run in self.folders
            if (run.row, run.seed) == (row, seed)
        ]
        return [100 * share for share in shares if share is not None]

    def splits(self, row: str, seed: int, column: str) -> dict[str, Any]:
        """The test results of the column's task, by split; empty if there are none."""
        run = self.run(row, seed, column)
        results = self.records[run].get("test", {}).get("tasks", {}) if run else {}
        task = self.plan.experiment.shown_columns[column].task
        return {name: split for name, split in results.items() if name.partition("/")[0] == task}

    def test_examples(self, column: str) -> int | None:
        """Number of test examples of a column, all splits together.

        None if no run was tested yet.
        """
        for row in self.rows:
            for seed in self.seeds(row):
                if splits := self.splits(row, seed, column):
                    return sum(int(split["examples"]) for split in splits.values())
        return None


def _all_correct(record: Mapping[str, Any]) -> dict[str, float]:
    """The accuracy of each label group in the test results of a run."""
    groups: dict[str, float] = record.get("test", {}).get("all_correct", {})
    return groups
