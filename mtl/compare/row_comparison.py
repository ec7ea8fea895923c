"""The comparison of two rows of a table: over seeds and over test examples."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from mtl.compare.bootstrap import read_test_predictions, resampled_scores
from mtl.compare.definition import MEAN
from mtl.compare.scores import Scores
from mtl.compare.statistics import (
    Difference,
    Floats,
    holm,
    paired_bootstrap,
    paired_t,
    permutation,
    relative_change,
)
from mtl.predictions import Predictions

Seeds = tuple[int, ...]


class Comparison(NamedTuple):
    """The comparison of two rows in one column.

    P-values are corrected over the row's columns (Holm).

    Attributes:
        seeds: The difference in hundredths over seeds (paired t-test).
        permutation: P-value of the exact sign-flip permutation test over seeds.
        examples: The difference of the seeds' mean over test examples (paired bootstrap); None
            without saved predictions.
        relative: The difference in per cent of the other row's score; NaN if that is 0 or negative.
    """

    seeds: Difference
    permutation: float
    examples: Difference | None
    relative: float


class RowComparer:
    """Compares rows. Predictions and resampled scores are computed once per row.

    Args:
        scores: The scores of the table.
    """

    def __init__(self, scores: Scores) -> None:
        self.scores = scores
        self._resampled: dict[tuple[str, str, tuple[str, ...], Seeds], Floats] = {}
        self._predictions: dict[tuple[str, str, int], Predictions | None] = {}

    def compare(self, row: str, other: str) -> dict[str, Comparison]:
        """The comparison of two rows in each column for which both have scores of a common seed."""
        columns = (*self.scores.columns, MEAN)
        pairs = {column: self.scores.score_pairs(row, other, column) for column in columns}
        pairs = {column: pair for column, pair in pairs.items() if pair[0]}
        seeds = _corrected({column: paired_t(*pair) for column, pair in pairs.items()})
        signs = dict(zip(pairs, holm([permutation(*pair) for pair in pairs.values()]), strict=True))
        over_examples = {column: self._over_examples(row, other, column) for column in pairs}
        examples = _corrected({c: found for c, found in over_examples.items() if found})
        comparisons = {}
        for column, (ours, theirs) in pairs.items():
            change = relative_change([statistics.fmean(ours)], [statistics.fmean(theirs)])
            comparisons[column] = Comparison(
                seeds[column], signs[column], examples.get(column), change
            )
        return comparisons

    def _over_examples(self, row: str, other: str, column: str) -> Difference | None:
        """The difference over resamples of the test examples, each task resampled separately.

        It uses the seeds for which both rows have a score of every task. None if there are none, if
        predictions are missing, or if the runs were tested on different examples.
        """
        columns = self.scores.main_columns if column == MEAN else [column]
        pairs = [
            (ours, theirs)
            for ours, theirs in self.scores.seed_pairs(row, other)
            if self._scored(row, ours, columns) and self._scored(other, theirs, columns)
        ]
        if not pairs:
            return None
        our_seeds, their_seeds = (tuple(dict.fromkeys(seeds)) for seeds in zip(*pairs, strict=True))
        for name in columns:
            models = self._models(row, name, our_seeds) + self._models(other, name, their_seeds)
            labels = [model.labels for model in models]
            if len(models) < len(our_seeds) + len(their_seeds):
                return None
            if not all(torch.equal(labels[0], each) for each in labels):
                return None
        ours = self._row_resamples(row, column, our_seeds)
        theirs = self._row_resamples(other, column, their_seeds)
        return None if ours is None or theirs is None else paired_bootstrap(ours, theirs)

    def _scored(self, row: str, seed: int, columns: list[str]) -> bool:
        return all(self.scores.score(row, seed, column) is not None for column in columns)

    def _row_resamples(self, row: str, column: str, seeds: Seeds) -> Floats | None:
        """A row's score on the test set and its resamples, the mean over seeds.

        Shape (1 + resamples,).

        None if the suite's score needs a split or a task that has no column.
        """
        table = self.scores.plan.experiment
        if column != MEAN:
            return self._column_resamples(row, column, seeds)
        if (suite_score := table.suite_score) is None:
            columns = [
                self._column_resamples(row, name, seeds) for name in self.scores.main_columns
            ]
            mean: Floats = np.mean(columns, 0)
            return mean
        if any(task not in table.main_columns for task, _ in suite_score.metrics):
            return None
        resamples = {
            (task, metric): self._task_resamples(row, task, [metric], seeds)
            for task, metric in suite_score.metrics
        }
        draws = zip(*resamples.values(), strict=True)
        return np.array(
            [100 * suite_score(_by_task(dict(zip(resamples, draw, strict=True)))) for draw in draws]
        )

    def _column_resamples(self, row: str, column: str, seeds: Seeds) -> Floats:
        task, metric = self.scores.plan.experiment.shown_columns[column]
        metrics = [metric] if metric else self.scores.tasks[task].metrics
        return self._task_resamples(row, task, metrics, seeds)

    def _task_resamples(self, row: str, task: str, metrics: Sequence[str], seeds: Seeds) -> Floats:
        key = (row, task, tuple(metrics), seeds)
        if key not in self._resampled:
            models = self._models(row, self.scores.plan.experiment.main_columns[task], seeds)
            self._resampled[key] = resampled_scores(self.scores.tasks[task], metrics, models)
        return self._resampled[key]

    def _models(self, row: str, column: str, seeds: Seeds) -> list[Predictions]:
        """The predictions of the runs of some seeds for a column's task.

        Runs without saved predictions are skipped.
        """
        for seed in seeds:
            if (row, column, seed) not in self._predictions:
                self._predictions[row, column, seed] = self._read(row, column, seed)
        predictions = [self._predictions[row, column, seed] for seed in seeds]
        return [saved for saved in predictions if saved is not None]

    def _read(self, row: str, column: str, seed: int) -> Predictions | None:
        run = self.scores.run(row, seed, column)
        if run is None:
            return None
        folder = self.scores.folders[run] / "predictions" / "test"
        splits = self.scores.splits(row, seed, column)
        files = [folder / f"{name.replace('/', '-')}.jsonl" for name in splits]
        task = self.scores.tasks[self.scores.plan.experiment.shown_columns[column].task]
        return read_test_predictions(task, files)


def _corrected(differences: dict[str, Difference]) -> dict[str, Difference]:
    """The differences with p-values corrected over all of them (Holm)."""
    p_values = holm([difference.p for difference in differences.values()])
    return {
        column: difference._replace(p=p)
        for (column, difference), p in zip(differences.items(), p_values, strict=True)
    }


def _by_task(values: Mapping[tuple[str, str], float]) -> dict[str, dict[str, float]]:
    """Metrics by task and name, from hundredths."""
    by_task: dict[str, dict[str, float]] = {}
    for (task, metric), value in values.items():
        by_task.setdefault(task, {})[metric] = value / 100
    return by_task
