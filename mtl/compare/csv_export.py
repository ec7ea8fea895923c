"""The results of a table as numbers, for CSV files and snapshots."""

import csv
import io
import math
import statistics
from itertools import product
from typing import Any

from mtl.compare.decision import Decision
from mtl.compare.definition import MEAN
from mtl.compare.results import Results, TaskDifference


def summary(results: Results) -> list[dict[str, Any]]:
    """One record per row and column.

    Scores in hundredths. The mean has the row's decision against its reference; the main column of
    each task has the exploratory difference.
    """
    records = []
    for row, column in product(results.rows, (*results.columns, MEAN)):
        scores = results.scores(row, column)
        compared = row != results.reference(row)
        records.append(
            {
                "row": row,
                "column": column,
                "n": len(scores),
                "mean": statistics.fmean(scores) if scores else None,
                "std": statistics.stdev(scores) if len(scores) > 1 else None,
                "test_examples": results.test_examples(column) if column != MEAN else None,
                "against": results.reference(row) if compared else None,
                **_decision(results.decisions[row] if compared and column == MEAN else None),
                **_exploratory(results.task_decisions.get((row, column))),
            }
        )
    return records


def _decision(decision: Decision | None) -> dict[str, Any]:
    names = ("difference", "low", "high", "standard_error", "df", "level")
    return {
        "verdict": decision.verdict.value if decision and decision.verdict else None,
        **{name: _number(getattr(decision, name)) if decision else None for name in names},
        "preliminary": decision.preliminary if decision else None,
        "sentence": decision.sentence() if decision else None,
    }


def _exploratory(difference: TaskDifference | None) -> dict[str, float | None]:
    values = difference or TaskDifference(*4 * [math.nan])
    return {f"exploratory_{name}": _number(value) for name, value in values._asdict().items()}


def summary_csv(results: Results) -> str:
    """The summary as CSV."""
    out = io.StringIO()
    records = summary(results)
    writer = csv.DictWriter(out, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
