"""The report of a table: grids of scores, differences and costs."""

import math
import statistics
from collections.abc import Sequence
from itertools import product

from mtl.compare import notes
from mtl.compare.definition import MEAN
from mtl.compare.definition_parts import Published
from mtl.compare.formatting import interval, mean_and_std, number, p_value, per_cent
from mtl.compare.rendering import Cell, Grid
from mtl.compare.results import Results

# For each row and column the folder with links to its runs.
Links = dict[tuple[str, str], str]

COST_HEAD = [
    "",
    "examples",
    "steps",
    "seconds",
    "examples/s",
    "peak memory (MiB)",
    "trained parameters",
    "all parameters",
]
DIFFERENCE_HEAD = [
    "",
    "task",
    "over seeds [95 %]",
    "p (t, Holm)",
    "p (signs)",
    "over test examples [95 %]",
    "p (examples)",
    "change",
]


def grids(results: Results, links: Links) -> list[Grid]:
    """The grids of the report: scores, differences from the baseline, costs.

    For crossed rows their map comes first.

    Args:
        results: The results.
        links: For each row and column the folder with links to its runs.
    """
    # If all runs failed, there are no differences or costs to show.
    optional = [grid for grid in (_differences(results), _costs(results)) if grid.lines]
    report = [_scores(results, links), *optional]
    return [_crossed_map(results, links), *report] if results.plan.experiment.crossed else report


def _crossed_map(results: Results, links: Links) -> Grid:
    """The means of crossed rows: the first set across, the second set down."""
    table = results.plan.experiment
    across, down = (list(fragments) for fragments in table.crossed.values())
    # A size may lack some of them.
    down = [second for second in down if any(f"{one}, {second}" in results.rows for one in across)]
    across = [one for one in across if any(f"{one}, {second}" in results.rows for second in down)]
    scores = {
        (one, second): results.scores(row, MEAN) if row in results.rows else []
        for one, second in product(across, down)
        for row in [f"{one}, {second}"]
    }

    def over(pairs: Sequence[tuple[str, str]]) -> Cell:
        return Cell(mean_and_std([score for pair in pairs for score in scores[pair]]))

    lines = []
    for second in down:
        cells = [
            Cell(mean_and_std(scores[one, second]), runs=links.get((f"{one}, {second}", MEAN), ""))
            for one in across
        ]
        lines.append([Cell(second), *cells, over([(one, second) for one in across])])
    means = [over([(one, second) for second in down]) for one in across]
    lines.append([Cell("all"), *means, over([(one, second) for one in across for second in down])])
    baseline = mean_and_std(results.scores(table.baseline, MEAN))
    about = [
        f"{_mean_label(results)} over tasks, mean ± sample standard deviation over seeds; "
        f"{table.baseline}: {baseline}",
        f"all: over all runs of the {' or '.join(table.crossed)}",
    ]
    title = f"{' and '.join(table.crossed)}: {table.question}"
    return Grid(title, ["", *across, "all"], lines, about)


def _scores(results: Results, links: Links) -> Grid:
    table, columns = results.plan.experiment, [*results.columns, MEAN]
    means = {
        (row, column): statistics.fmean(scores)
        for row, column in product(results.rows, columns)
        if (scores := results.scores(row, column))
    }
    best = {
        column: max(results.rows, key=lambda row: means.get((row, column), -math.inf), default="")
        for column in columns
    }
    lines = []
    for row in results.rows:
        cells = [
            Cell(
                _score_text(results, row, column),
                row == best[column] and _beyond_noise(results, row, column),
                links.get((row, column), ""),
            )
            for column in columns
        ]
        change = "" if row == table.baseline else per_cent(results.mean_change(row))
        lines.append([Cell(row), *cells, Cell(change)])
        if table.published and row in table.published.rows:
            lines.append(_published_line(table.published, row, columns))
    head = [
        f"{column} ({count:,})" if (count := results.test_examples(column)) else column
        for column in results.columns
    ]
    return Grid(
        table.question, ["", *head, _mean_label(results), "Δm"], lines, _score_notes(results)
    )


def _score_text(results: Results, row: str, column: str) -> str:
    scores = results.scores(row, column)
    if not scores:
        return results.missing_reason(row)
    missing = len(scores) < len(results.seeds(row))
    return mean_and_std(scores) + (f" (n={len(scores)})" if missing else "")


def _beyond_noise(results: Results, row: str, column: str) -> bool:
    """Whether a row is better than its reference beyond the noise of seeds and of test examples."""
    comparison = results.comparisons.get((row, column))
    if comparison is None or comparison.examples is None:
        return False
    seeds = comparison.seeds
    return seeds.mean > 0 and seeds.p < 0.05 and comparison.examples.low > 0


def _score_notes(results: Results) -> list[str]:
    table, values = results.plan.experiment, results.plan.size.values
    rows = {} if table.crossed else table.rows
    lines = [
        notes.size_note(results),
        *[notes.row_note(name, row, values) for name, row in rows.items()],
        f"mean ± sample standard deviation over seeds {list(results.plan.seeds)}; in parentheses "
        "the number of test examples",
        f"Δm: mean over tasks of the relative change from {table.baseline!r}",
        "bold: the best row of its column, if it is better than the row it is compared with: p < "
        "0.05 over seeds (paired t-test, "
        "Holm correction over the row's columns, not over rows), and a 95 % interval over test "
        "examples above 0",
        f"budget of every row: {table.budget}",
        *notes.provenance(results),
    ]
    if table.published:
        verified = "" if table.published.verified else ", not verified"
        lines.append(f"published: {table.published.source}{verified}")
    return lines


def _published_line(published: Published, row: str, columns: Sequence[str]) -> list[Cell]:
    figures = published.rows[row]
    mark = "" if published.verified else " (unverified)"
    cells = [Cell(str(figures.get(column, ""))) for column in columns]
    return [Cell(f"  published{mark}"), *cells, Cell("")]


def _differences(results: Results) -> Grid:
    # Of crossed rows only the mean is shown; `table.csv` has all columns.
    columns = [MEAN] if results.plan.experiment.crossed else [*results.columns, MEAN]
    lines: list[list[Cell]] = []
    for row in results.rows:
        wins, losses = results.wins_and_losses(row)
        name = f"{row} - {results.reference(row)} ({wins} tasks better, {losses} worse)"
        for column in columns:
            if (comparison := results.comparisons.get((row, column))) is None:
                continue
            examples = comparison.examples
            texts = [
                name,
                column if column != MEAN else _mean_label(results),
                interval(comparison.seeds),
                p_value(comparison.seeds.p),
                p_value(comparison.permutation),
                interval(examples) if examples else "",
                p_value(examples.p) if examples else "",
                per_cent(comparison.relative),
            ]
            lines.append([Cell(text) for text in texts])
            name = ""  # only in the row's first line
    smallest_p = 2 / 2 ** len(results.plan.seeds)
    about = [
        "differences in hundredths; p-values are corrected over the row's columns (Holm), not "
        "over rows",
        "over seeds: paired by seed, Student's t; p (signs): exact sign-flip permutation test, "
        "whose p-value with "
        f"{len(results.plan.seeds)} seeds is at least {smallest_p:.3g} before correction",
        "over test examples: paired bootstrap of the seeds' mean score on the saved predictions",
        "change: the difference in per cent of the score of the row compared with",
    ]
    return Grid("differences", DIFFERENCE_HEAD, lines, about)


def _costs(results: Results) -> Grid:
    lines = []
    for row in results.rows:
        cost = results.cost(row)
        speed = cost.examples / cost.seconds if cost.examples and cost.seconds else None
        memory = cost.memory and cost.memory / 2**20
        numbers = (cost.examples, cost.steps, cost.seconds, speed, memory, cost.trained, cost.total)
        lines.append([Cell(row), *[Cell(number(value)) for value in numbers]])
    about = [
        "all runs of a seed together, including the runs that they start from; memory: the run "
        "that uses most"
    ]
    if any(row.grid for row in results.plan.experiment.rows.values()):
        about.append("of a grid or a search only the chosen run counts")
    return Grid("cost", COST_HEAD, lines, about)


def _mean_label(results: Results) -> str:
    return "score" if results.plan.experiment.suite_score else MEAN
