"""The results of a table: scores, decisions, costs, and failed runs."""

from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from mtl.compare.costs import Cost, row_cost
from mtl.compare.decision import ALPHA, Decision
from mtl.compare.definition import MEAN
from mtl.compare.estimate import RowScores, estimate
from mtl.compare.families import holm, no_task_loses, possibly_best
from mtl.compare.plan import Plan
from mtl.compare.row_comparison import RowComparer
from mtl.compare.run_spec import RunSpec
from mtl.compare.scores import Scores

ERROR_PREFIX = "mtl: error: "


class TaskDifference(NamedTuple):
    """The difference between a row and its reference in one task. Exploratory.

    Attributes:
        difference: The difference in points.
        low: Lower end of the 95 % interval of this difference alone.
        high: Upper end.
        p: P-value, corrected over all rows and tasks of the table (Holm).
    """

    difference: float
    low: float
    high: float
    p: float


class Results(Scores):
    """The results of a table.

    Args:
        plan: The table's runs.
        folders: Folders of the finished runs; of a grid, of the run that was chosen.
        failed: The reason for each run that failed.
        tuning: Folders of the runs that only served to choose options.
    """

    def __init__(
        self,
        plan: Plan,
        folders: dict[RunSpec, Path],
        failed: dict[RunSpec, str],
        tuning: dict[RunSpec, Path] | None = None,
    ) -> None:
        super().__init__(plan, folders, tuning)
        self.failed = failed

    @cached_property
    def _comparer(self) -> RowComparer:
        return RowComparer(self)

    @property
    def compared_rows(self) -> list[str]:
        """The rows that are compared with another row."""
        return [row for row in self.rows if row != self.reference(row)]

    def reference(self, row: str) -> str:
        """The row that a row is compared with; the baseline is its own reference."""
        return self.plan.experiment.rows[row].against or self.plan.experiment.baseline

    @cached_property
    def decisions(self) -> dict[str, Decision]:
        """For each row other than the baseline the decision against its reference."""
        return {
            row: self._comparer.decide(row, self.reference(row), self._comparisons(row))
            for row in self.compared_rows
        }

    def _comparisons(self, row: str) -> int:
        """Number of rows that are compared with a row's reference."""
        references = [self.reference(other) for other in self.compared_rows]
        return references.count(self.reference(row))

    @cached_property
    def task_decisions(self) -> dict[tuple[str, str], TaskDifference]:
        """For each row and task the difference from the row's reference; exploratory.

        A task is given by its main column. Missing if one of the rows cannot be compared.
        """
        found = {
            (row, column): estimate(*pair, paired=self.plan.experiment.paired)
            for row in self.compared_rows
            for column in self.main_columns
            if _comparable(*(pair := self._comparer.pair(row, self.reference(row), column)))
        }
        p_values = holm([one.p for one in found.values()])
        return {
            key: TaskDifference(one.difference, *one.interval(ALPHA), p)
            for (key, one), p in zip(found.items(), p_values, strict=True)
        }

    def no_task_loses(self, row: str) -> bool:
        """Whether no task of a row loses more than the margin against the row's reference."""
        pairs = [
            self._comparer.pair(row, self.reference(row), column) for column in self.main_columns
        ]
        if not all(_comparable(*pair) for pair in pairs):
            return False
        tasks = [estimate(*pair, paired=self.plan.experiment.paired) for pair in pairs]
        return no_task_loses(
            tasks, self.plan.experiment.margin, ALPHA / max(1, self._comparisons(row))
        )

    def sampled(self, row: str, column: str) -> RowScores:
        """The scores of a row in a column with their resamples, also of a row that is not shown."""
        return self._comparer.sampled(row, column).scores

    def pairwise(self) -> dict[tuple[str, str], Decision]:
        """The decision about each pair of rows, the later row against the earlier one.

        The intervals hold for all pairs together.
        """
        pairs = list(combinations(self.rows, 2))
        return {(row, other): self._comparer.decide(row, other, len(pairs)) for other, row in pairs}

    @cached_property
    def possibly_best(self) -> list[str]:
        """The possibly best rows, by multiple comparisons with the best."""
        rows = [each for row in self.rows if (each := self._comparer.sampled(row, MEAN)).seeds]
        paired = self.plan.experiment.paired
        trained = [each for each in rows if each.scores.trained]
        common = set.intersection(*(set(each.seeds) for each in trained)) if trained else set()
        return possibly_best(
            [
                each.scores.chosen([each.seeds.index(seed) for seed in sorted(common)])
                if paired and each.scores.trained
                else each.scores
                for each in rows
            ],
            paired=paired,
        )

    def cost(self, row: str) -> Cost:
        """What it costs to train a row."""
        return row_cost(self, row)

    def missing_reason(self, row: str) -> str:
        """Why a row has no score in a column."""
        return "failed" if any(run.row == row for run in self.failed) else "not run"

    def failures(self) -> list[str]:
        """One line for each failed run: its log, and the error message in it."""
        messages = {run: self.failure_message(run) for run in self.failed}
        return [
            f"FAILED: {run}: {why}{f': {messages[run]}' if messages[run] not in ('', why) else ''}"
            for run, why in self.failed.items()
        ]

    def failure_message(self, run: RunSpec) -> str:
        """The last error message in a failed run's log, or the reason why it was not started."""
        log = Path(self.failed[run])
        return _last_error(log) if log.suffix == ".log" else self.failed[run]


def _comparable(row: RowScores, other: RowScores) -> bool:
    """Whether two rows have a measure of noise."""
    return all(each.seeds > 1 or (each.seeds and not each.trained) for each in (row, other))


def _last_error(log: Path) -> str:
    """The last error message in a run's log; empty if there is none."""
    if not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith(ERROR_PREFIX)]
    return errors[-1].removeprefix(ERROR_PREFIX) if errors else ""
