"""The results of a table as numbers, for CSV files and snapshots."""

import csv
import io
import math
import statistics
from itertools import product
from typing import Any

from mtl.compare.definition import MEAN
from mtl.compare.results import Results
from mtl.compare.statistics import Difference


def summary(results: Results) -> list[dict[str, Any]]:
    """One record per row and column.

    Scores in hundredths, and the comparison with the row's reference, if there is one.
    """
    records = []
    for row, column in product(results.rows, (*results.columns, MEAN)):
        scores, comparison = results.scores(row, column), results.comparisons.get((row, column))
        records.append(
            {
                "row": row,
                "column": column,
                "n": len(scores),
                "mean": statistics.fmean(scores) if scores else None,
                "std": statistics.stdev(scores) if len(scores) > 1 else None,
                "test_examples": results.test_examples(column) if column != MEAN else None,
                "against": results.reference(row) if comparison else None,
                **_difference("seeds", comparison.seeds if comparison else None),
                **_difference("examples", comparison.examples if comparison else None),
                "signs_p": _number(comparison.permutation if comparison else None),
                "relative_percent": _number(comparison.relative if comparison else None),
            }
        )
    return records


def summary_csv(results: Results) -> str:
    """The summary as CSV."""
    out = io.StringIO()
    records = summary(results)
    writer = csv.DictWriter(out, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def scores_csv(results: Results) -> str:
    """Every single score as CSV: row, seed, column, score in hundredths, run folder."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["row", "seed", "task", "score", "folder"])
    for row in results.rows:
        for seed, column in product(results.seeds(row), (*results.columns, MEAN)):
            score, run = results.score(row, seed, column), results.run(row, seed, column)
            if score is not None:
                folder = results.folders[run] if run else ""
                writer.writerow([row, seed, column, f"{score:.4f}", folder])
    return out.getvalue()


def _difference(prefix: str, difference: Difference | None) -> dict[str, float | None]:
    values = difference or Difference(math.nan, math.nan, math.nan, math.nan)
    return {f"{prefix}_{name}": _number(value) for name, value in values._asdict().items()}


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
