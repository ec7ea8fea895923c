"""The data of a page's charts as JSON."""

import json
from dataclasses import asdict

from mtl.compare.page.data import Difference, PageData, PageRow, Pair

# Characters that could end the script element that holds the data, or start markup in it.
ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def chart_json(page: PageData) -> str:
    """The data of the charts as JSON that is safe inside a script element."""
    chart = {
        "baseline": page.baseline,
        "scoreName": page.score_name,
        "margin": page.margin,
        "columns": list(page.columns),
        "rows": [_chart_row(row, page.score_name) for row in page.rows],
        "pairs": list(map(_chart_pair, page.pairs)),
        "costNames": page.cost_names,
        "curves": [
            [curve.row, curve.seed, [[step, _rounded(value)] for step, value in curve.points]]
            for curve in page.curves
        ],
        "crossed": asdict(page.crossed) if page.crossed else None,
    }
    text = json.dumps(chart, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(ESCAPES)


def _chart_row(row: PageRow, score_name: str) -> dict[str, object]:
    return {
        "name": row.name,
        "mean": _rounded(row.scores[score_name].mean),
        "decision": _chart_difference(row.decision) if row.decision else None,
        "tasks": {column: _chart_difference(found) for column, found in row.tasks.items()},
        "costs": row.costs,
    }


def _chart_pair(pair: Pair) -> list[object]:
    numbers = map(_rounded, (pair.value, pair.low, pair.high))
    return [pair.row, pair.other, *numbers, pair.verdict]


def _chart_difference(found: Difference) -> list[object]:
    numbers = map(_rounded, (found.value, found.low, found.high))
    return [*numbers, found.verdict, found.other, found.sentence]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
