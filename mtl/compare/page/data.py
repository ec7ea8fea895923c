"""What the page of a comparison shows, as plain data."""

import json
from dataclasses import asdict, dataclass, field

# Characters that could end the script element that holds the data, or start markup in it.
ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class CellScore:
    """The score of a row in a column, in points.

    Attributes:
        mean: The mean over seeds; None without a score.
        std: The sample standard deviation over seeds; None with fewer than two seeds.
        seeds: The score of each seed.
        missing: Why there is no score, such as `failed`; empty if there is one.
        published: The published figure, if there is one.
    """

    mean: float | None = None
    std: float | None = None
    seeds: dict[int, float] = field(default_factory=dict)
    missing: str = ""
    published: str = ""


@dataclass(frozen=True)
class Difference:
    """The difference of two rows in points.

    Attributes:
        other: Name of the row compared with.
        value: The difference of the means.
        low: Lower end of the interval; None if there is none.
        high: Upper end; None if there is none.
        verdict: A verdict of `mtl.compare.decision`; empty if the rows cannot be compared.
        sentence: The verdict in words.
    """

    other: str
    value: float
    low: float | None
    high: float | None
    verdict: str
    sentence: str


@dataclass(frozen=True)
class PageRow:
    """A row of the comparison.

    Attributes:
        name: Its name.
        about: How its models are trained.
        scores: Its score by column, the mean included.
        decision: Its comparison with its baseline; None for the baseline itself, and for a row
            without scores.
        tasks: The same for single columns.
        costs: What it costs, by the keys of `PageData.cost_names`.
    """

    name: str
    about: str
    scores: dict[str, CellScore]
    decision: Difference | None
    tasks: dict[str, Difference]
    costs: dict[str, float | None]


@dataclass(frozen=True)
class Pair:
    """The comparison of two rows, by their index.

    Attributes:
        row: The row.
        other: The row compared with.
        value: The difference of the means.
        low: Lower end of the interval; None if there is none.
        high: Upper end; None if there is none.
        verdict: The verdict; empty if the rows cannot be compared.
    """

    row: int
    other: int
    value: float
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class Curve:
    """The validation score of one seed of a row during training.

    Attributes:
        row: Index of the row.
        seed: The seed.
        points: Steps and scores in points.
    """

    row: int
    seed: int
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Problem:
    """A run without a result.

    Attributes:
        run: The run: row, seed, task.
        status: `failed` or `not run`.
        message: Its error message.
        log: Its log file.
    """

    run: str
    status: str
    message: str = ""
    log: str = ""


@dataclass(frozen=True)
class Download:
    """A file that is part of the page.

    Attributes:
        name: Its file name.
        about: Its contents in a few words.
        media_type: Its media type.
        text: Its contents.
    """

    name: str
    about: str
    media_type: str
    text: str


@dataclass(frozen=True)
class CrossedMap:
    """The rows that are the combinations of two sets.

    Attributes:
        names: Names of the two sets.
        across: Names of the first set.
        down: Names of the second set.
        rows: For each name of the second set the index of its row with each of the first; None if
            there is no such row.
    """

    names: tuple[str, str]
    across: list[str]
    down: list[str]
    rows: list[list[int | None]]


@dataclass(frozen=True)
class PageData:
    """What the page of a comparison shows.

    Attributes:
        question: The question that it answers.
        name: The name of the comparison and of its size.
        verdict: The answer, one paragraph each; the first one says which row to use.
        warnings: What limits the answer.
        baseline: Name of the row that the others are compared with.
        score_name: Name of the column of the mean or of the suite's score.
        margin: The largest loss in points that counts as "no worse".
        seeds: The seeds.
        columns: The number of test examples of each column; None if unknown.
        rows: The rows.
        pairs: All pairs of rows.
        cost_names: Names of the costs with their units, by key; the first is shown first.
        curves: The learning curves.
        problems: The runs without a result.
        notes: How the runs were made.
        downloads: Files to download.
        command: The command that makes the comparison.
        crossed: The map of crossed rows; None if no rows are crossed.
    """

    question: str
    name: str
    verdict: list[str]
    warnings: list[str]
    baseline: str
    score_name: str
    margin: float
    seeds: list[int]
    columns: dict[str, int | None]
    rows: list[PageRow]
    pairs: list[Pair]
    cost_names: dict[str, str]
    curves: list[Curve] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    downloads: list[Download] = field(default_factory=list)
    command: str = ""
    crossed: CrossedMap | None = None

    def chart_json(self) -> str:
        """The data of the charts as JSON that is safe inside a script element."""
        chart = {
            "baseline": self.baseline,
            "scoreName": self.score_name,
            "margin": self.margin,
            "columns": list(self.columns),
            "rows": [_chart_row(row, self.score_name) for row in self.rows],
            "pairs": [
                [pair.row, pair.other, *map(_rounded, (pair.value, pair.low, pair.high)), verdict]
                for pair in self.pairs
                for verdict in [pair.verdict]
            ],
            "costNames": self.cost_names,
            "curves": [
                [curve.row, curve.seed, [[step, _rounded(value)] for step, value in curve.points]]
                for curve in self.curves
            ],
            "crossed": asdict(self.crossed) if self.crossed else None,
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


def _chart_difference(found: Difference) -> list[object]:
    numbers = map(_rounded, (found.value, found.low, found.high))
    return [*numbers, found.verdict, found.other]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
