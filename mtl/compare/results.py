"""The results of a table: scores, comparisons with the baseline, costs, and failed runs."""

import math
import statistics
from functools import cached_property
from pathlib import Path

from mtl.compare.costs import Cost, row_cost
from mtl.compare.plan import Plan, RunSpec
from mtl.compare.row_comparison import Comparison, RowComparer
from mtl.compare.scores import Scores
from mtl.compare.statistics import relative_change

ERROR_PREFIX = "mtl: error: "


class Results(Scores):
    """The results of a table.

    Args:
        plan: The table's runs.
        folders: Folders of the finished runs; of a grid, of the run that was chosen.
        failed: The reason for each run that failed.
    """

    def __init__(
        self, plan: Plan, folders: dict[RunSpec, Path], failed: dict[RunSpec, str]
    ) -> None:
        super().__init__(plan, folders)
        self.failed = failed

    @cached_property
    def comparisons(self) -> dict[tuple[str, str], Comparison]:
        """For each row and column the comparison with the row's reference.

        Missing if the two have no seed in common.
        """
        comparer = RowComparer(self)
        return {
            (row, column): comparison
            for row in self.rows
            if row != self.plan.experiment.baseline
            for column, comparison in comparer.compare(row, self.reference(row)).items()
        }

    def reference(self, row: str) -> str:
        """The row that a row is compared with."""
        return self.plan.experiment.rows[row].against or self.plan.experiment.baseline

    def mean_change(self, row: str) -> float:
        """The mean over tasks of the change from the baseline, in per cent of it.

        Over the seeds that both rows have.
        """
        baseline = self.plan.experiment.baseline
        pairs = [self.score_pairs(row, baseline, column) for column in self.main_columns]
        if not all(ours for ours, _ in pairs):
            return math.nan
        return relative_change(
            [statistics.fmean(ours) for ours, _ in pairs],
            [statistics.fmean(theirs) for _, theirs in pairs],
        )

    def wins_and_losses(self, row: str) -> tuple[int, int]:
        """The number of tasks in which a row is better than its reference.

        And in which it is worse.
        """
        means = [
            self.comparisons[row, column].seeds.mean
            for column in self.main_columns
            if (row, column) in self.comparisons
        ]
        return sum(mean > 0 for mean in means), sum(mean < 0 for mean in means)

    def cost(self, row: str) -> Cost:
        """What it costs to train a row."""
        return row_cost(self, row)

    def missing_reason(self, row: str) -> str:
        """Why a row has no score in a column."""
        return "failed" if any(run.row == row for run in self.failed) else "not run"

    def failures(self) -> list[str]:
        """One line for each failed run: its log, and the error message in it."""
        return [f"FAILED: {run}: {why}{_last_error(Path(why))}" for run, why in self.failed.items()]


def _last_error(log: Path) -> str:
    """The last error message in a run's log; empty if the path is no log."""
    if log.suffix != ".log" or not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith(ERROR_PREFIX)]
    return f": {errors[-1].removeprefix(ERROR_PREFIX)}" if errors else ""
