"""The scores of a table's rows with their resamples, and the comparison of two rows."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np

from mtl.compare.bootstrap import read_test_predictions, resampled_metrics, same_examples
from mtl.compare.decision import Decision, decide
from mtl.compare.definition import MEAN
from mtl.compare.estimate import Floats, RowScores
from mtl.compare.looks import decide_at_looks
from mtl.compare.scores import Scores
from mtl.metric_functions import is_error
from mtl.predictions import Predictions


class Sampled(NamedTuple):
    """A row's scores in a column, with the seed of each.

    Attributes:
        seeds: The seeds that have a score.
        scores: Their scores.
    """

    seeds: list[int]
    scores: RowScores


class RowComparer:
    """Compares the rows of a table. Predictions are read and resampled once.

    Args:
        scores: The scores of the table.
    """

    def __init__(self, scores: Scores) -> None:
        self.scores = scores
        self.table = scores.plan.experiment
        self._split_metrics: dict[str, dict[tuple[str, int], dict[str, Floats]]] = {}
        self._sampled: dict[tuple[str, str], Sampled] = {}

    def decide(self, row: str, other: str, comparisons: int) -> Decision:
        """The decision about two rows, by their mean over tasks or the suite's own score.

        Args:
            row: The row.
            other: The row that it is compared with.
            comparisons: Number of comparisons that together keep the level of 5 %.
        """
        rule = partial(decide_at_looks, looks=self.table.looks) if self.table.looks else decide
        return rule(
            *self.pair(row, other, MEAN),
            comparisons=comparisons,
            margin=self.table.margin,
            target=self.table.target,
            paired=self.table.paired,
        )

    def pair(self, row: str, other: str, column: str) -> tuple[RowScores, RowScores]:
        """The scores of two rows in a column; of paired rows, those of their common seeds."""
        ours, theirs = self.sampled(row, column), self.sampled(other, column)
        if not self.table.paired or not (ours.scores.trained and theirs.scores.trained):
            return ours.scores, theirs.scores
        common = [seed for seed in ours.seeds if seed in theirs.seeds]
        first, second = (
            each.scores.chosen([each.seeds.index(seed) for seed in common])
            for each in (ours, theirs)
        )
        return first, second

    def sampled(self, row: str, column: str) -> Sampled:
        """A row's scores in a column, in the order of its seeds."""
        if (row, column) not in self._sampled:
            by_seed = {
                seed: score
                for seed in self.scores.seeds(row)
                if (score := self.scores.score(row, seed, column)) is not None
            }
            values = np.array(list(by_seed.values()))
            varies = bool(len(values) and np.ptp(values))
            resampled = [self._resampled(row, seed, column) for seed in by_seed]
            known = [draws for draws in resampled if draws is not None]
            self._sampled[row, column] = Sampled(
                list(by_seed),
                RowScores(
                    row,
                    values,
                    np.array(known) if known and len(known) == len(values) else None,
                    self._test_examples(column),
                    trained=self._is_trained(row) or varies,
                    first_stage=self._has_one_first_stage(row),
                ),
            )
        return self._sampled[row, column]

    def _is_trained(self, row: str) -> bool:
        definition = self.table.rows[row]
        return definition.command == "fit" or any(map(self._is_trained, definition.uses.values()))

    def _has_one_first_stage(self, row: str) -> bool:
        """Whether all seeds of a row start from one trained run."""
        if self.table.rows[row].seed is not None:
            return False
        used = self.table.rows[row].uses.values()
        return any(
            (self.table.rows[name].seed is not None and self.table.rows[name].command == "fit")
            or self._has_one_first_stage(name)
            for name in used
        )

    def _test_examples(self, column: str) -> int | None:
        """Number of test examples of a column; of the mean, of the smallest test set."""
        columns = self.scores.main_columns if column == MEAN else [column]
        sizes = [size for name in columns if (size := self.scores.test_examples(name))]
        return min(sizes, default=None)

    def _resampled(self, row: str, seed: int, column: str) -> Floats | None:
        """One seed's score on the resamples; None if predictions are missing."""
        if column != MEAN:
            return self._column_resamples(row, seed, column)
        if self.table.suite_score is None:
            columns = [self._column_resamples(row, seed, name) for name in self.scores.main_columns]
            known = [draws for draws in columns if draws is not None]
            return np.asarray(np.mean(known, 0)) if len(known) == len(columns) else None
        values: dict[str, dict[str, Floats]] = {}
        for name in self.scores.main_columns:
            splits = self._splits(row, seed, name)
            if splits is None:
                return None
            values |= {
                split: {metric: draws / 100 for metric, draws in metrics.items()}
                for split, metrics in splits.items()
            }
        if any(split not in values for split, _ in self.table.suite_score.metrics):
            return None
        # The score is arithmetic, so it computes all resamples at once.
        return 100 * cast("Floats", self.table.suite_score(cast("Any", values)))

    def _column_resamples(self, row: str, seed: int, column: str) -> Floats | None:
        """The score of a column: the mean over the splits of its task."""
        metric = self.table.shown_columns[column].metric
        splits = self._splits(row, seed, column)
        if splits is None:
            return None
        return np.mean(
            [
                metrics[metric] if metric else _mean_of_scores(metrics)
                for metrics in splits.values()
            ],
            axis=0,
        )

    def _splits(self, row: str, seed: int, column: str) -> dict[str, dict[str, Floats]] | None:
        """For each test split of a column's task the resampled metrics of one seed."""
        task = self.table.shown_columns[column].task
        splits = self.scores.splits(row, seed, column)
        found = {
            split: self._of_split(split, task)[row, seed]
            for split in splits
            if (row, seed) in self._of_split(split, task)
        }
        return found if found and len(found) == len(splits) else None

    def _of_split(self, split: str, task: str) -> dict[tuple[str, int], dict[str, Floats]]:
        """The resampled metrics of all rows and seeds that have predictions for a split.

        Models that were tested on other examples than the baseline are skipped.
        """
        if split not in self._split_metrics:
            models = self._predictions(split, task)
            values = (
                resampled_metrics(split, self.scores.tasks[task].metrics, list(models.values()))
                if models
                else {}
            )
            self._split_metrics[split] = {
                key: {metric: rows[index] for metric, rows in values.items()}
                for index, key in enumerate(models)
            }
        return self._split_metrics[split]

    def _predictions(self, split: str, task: str) -> dict[tuple[str, int], Predictions]:
        column = self.table.main_columns[task]
        models: dict[tuple[str, int], Predictions] = {}
        others = [row for row in self.table.rows if row != self.table.baseline]
        for row in (self.table.baseline, *others):
            for seed in self.scores.seeds(row):
                run = self.scores.run(row, seed, column)
                if run is None:
                    continue
                folder = self.scores.folders[run] / "predictions" / "test"
                file = folder / f"{split.replace('/', '-')}.jsonl"
                read = read_test_predictions(self.scores.tasks[task], file)
                first = next(iter(models.values()), read)
                if read is not None and first is not None and same_examples(read, first):
                    models[row, seed] = read
        return models


def _mean_of_scores(metrics: Mapping[str, Floats]) -> Floats:
    """The resampled scores of a task: the mean of its metrics, without errors."""
    scores = [draws for name, draws in metrics.items() if not is_error(name)]
    return np.asarray(np.mean(scores, 0))
