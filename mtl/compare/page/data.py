"""What the page of a comparison shows, as plain data."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CellScore:
    """The score of a row in a column, in points.

    Attributes:
        mean: The mean over seeds; None without a score.
        std: The sample standard deviation over seeds; None with fewer than two seeds.
        seeds: The score of each seed; empty if only their mean was kept.
        count: The number of seeds.
        missing: Why there is no score, such as `failed`; empty if there is one.
        published: The published figure, if there is one.
    """

    mean: float | None = None
    std: float | None = None
    seeds: dict[int, float] = field(default_factory=dict)
    count: int = 0
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
        tasks: Its exploratory differences in single columns. Their verdict is better or worse if
            the corrected p-value is below 5 %.
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
        contents: Its contents.
    """

    name: str
    about: str
    media_type: str
    contents: bytes


@dataclass(frozen=True)
class CrossedMap:
    """The combinations of two sets of rows.

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
        shipping: Which run to use, and the commands that do so.
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
    shipping: list[str] = field(default_factory=list)
    crossed: CrossedMap | None = None
