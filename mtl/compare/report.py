"""The report of a table: the verdict, then grids of scores, differences by task, and costs."""

from collections.abc import Callable, Sequence
from itertools import product

from mtl.compare import notes
from mtl.compare.costs import Cost
from mtl.compare.decision import Verdict
from mtl.compare.definition import MEAN
from mtl.compare.definition_parts import Published
from mtl.compare.formatting import interval, mean_and_std, number, p_value
from mtl.compare.front_report import front_grid
from mtl.compare.rendering import Cell, Grid, Report
from mtl.compare.results import Results
from mtl.compare.shipping import shipping_lines
from mtl.compare.verdict import margin_note, recommendation, verdict_lines, warnings

# For each row and column the folder with links to its runs.
Links = dict[tuple[str, str], str]

# More warnings about the data are only counted.
MAX_KNOWN = 8
# The columns of the table of costs: their heads and how they are computed.
COSTS: dict[str, Callable[[Cost], float | None]] = {
    "training time (s)": lambda cost: cost.seconds,
    "training time with trials (s)": lambda cost: cost.with_tuning,
    "parameters stored": lambda cost: cost.total,
    "encoder passes per text": lambda cost: cost.passes,
    "trained parameters": lambda cost: cost.trained,
    "examples": lambda cost: cost.examples,
    "steps": lambda cost: cost.steps,
    "examples/s": lambda cost: cost.speed,
    "peak memory (MiB)": lambda cost: cost.memory and cost.memory / 2**20,
}


def make_report(
    results: Results, links: Links, unloadable: Sequence[str] = (), known: Sequence[str] = ()
) -> Report:
    """The report: verdict, scores, differences by task, costs.

    For crossed rows their map comes first.

    Args:
        results: The results.
        links: For each row and column the folder with links to its runs.
        unloadable: The rows whose exports transformers cannot load.
        known: Warnings that were printed before the training.
    """
    # If all runs failed, there are no differences or costs to show.
    parts = (front_grid(results), _differences(results), _costs(results))
    optional = [grid for grid in parts if grid.lines]
    grids = [_scores(results, links), *optional]
    if results.plan.experiment.crossed:
        grids.insert(0, _crossed_map(results, links))
    question = results.plan.experiment.question
    row = recommendation(results).row
    shipping = list(shipping_lines(results, row, row not in unloadable)) if row else []
    more = len(known) - MAX_KNOWN
    earlier = [*known[:MAX_KNOWN], *([f"{more} more, printed before training"] * (more > 0))]
    limits = [*warnings(results), *earlier]
    return Report(question, verdict_lines(results), limits, grids, shipping)


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
    title = " and ".join(table.crossed)
    return Grid(title, ["", *across, "all"], lines, about)


def _scores(results: Results, links: Links) -> Grid:
    table, columns = results.plan.experiment, [*results.columns, MEAN]
    lines = []
    for row in results.rows:
        decision = results.decisions.get(row)
        verdict = decision.verdict if decision else None
        bold, dim = verdict is Verdict.BETTER, verdict is Verdict.WORSE
        cells = [
            Cell(
                _score_text(results, row, column),
                bold and column == MEAN,
                links.get((row, column), ""),
                dim,
            )
            for column in columns
        ]
        shares = [results.all_correct(row, group) for group in results.label_groups]
        compared = [
            *[mean_and_std(each) if each else "" for each in shares],
            interval(decision.difference, decision.low, decision.high) if decision else "",
            verdict or "no verdict" if decision else "",
        ]
        lines.append(
            [Cell(row, bold, "", dim), *cells, *[Cell(text, bold, "", dim) for text in compared]]
        )
        if table.published and row in table.published.rows:
            blank = len(results.label_groups) + 2
            lines.append(_published_line(table.published, row, columns, blank))
    head = [
        f"{column} ({count:,})" if (count := results.test_examples(column)) else column
        for column in results.columns
    ]
    return Grid(
        "scores",
        [
            "",
            *head,
            _mean_label(results),
            *[f"all right: {group}" for group in results.label_groups],
            "difference [95 %]",
            "verdict",
        ],
        lines,
        _score_notes(results),
    )


def _score_text(results: Results, row: str, column: str) -> str:
    scores = results.scores(row, column)
    if not scores:
        return results.missing_reason(row)
    missing = len(scores) < len(results.seeds(row))
    return mean_and_std(scores) + (f" (n={len(scores)})" if missing else "")


def _score_notes(results: Results) -> list[str]:
    table, values = results.plan.experiment, results.plan.size.values
    weightings = results.plan.weightings
    rows = {} if table.crossed else table.rows
    lines = [
        notes.size_note(results),
        *[
            notes.row_note(name, row, values)
            for name, row in rows.items()
            if name not in weightings
        ],
        f"mean ± sample standard deviation over seeds {list(results.plan.seeds)}; in parentheses "
        "the number of test examples",
        margin_note(results),
        "bold: better than the row it is compared with; rows other than that have not been "
        "compared with one another",
        f"budget of every row: {table.budget}",
        *notes.provenance(results),
    ]
    if results.label_groups:
        lines.append(
            "all right: texts for which all labels of the group are right (sentence accuracy), for "
            "rows that predict them in one run"
        )
    if table.published:
        verified = "" if table.published.verified else ", not verified"
        lines.append(f"published: {table.published.source}{verified}")
    return lines


def _published_line(
    published: Published, row: str, columns: Sequence[str], blank: int
) -> list[Cell]:
    figures = published.rows[row]
    mark = "" if published.verified else " (unverified)"
    cells = [Cell(str(figures.get(column, ""))) for column in columns]
    return [Cell(f"  published{mark}"), *cells, *[Cell("")] * blank]


def _differences(results: Results) -> Grid:
    """The differences in each task. Crossed tables have too many; `table.csv` has them."""
    head = ["", "task", "difference [95 %]", "p (Holm)"]
    about = [
        "exploratory: one column per task, in points; each interval stands alone; p-values are "
        "corrected over all rows and tasks (Holm)",
        "a row of which no task loses more than the margin has it in its verdict",
    ]
    lines: list[list[Cell]] = []
    for row in [] if results.plan.experiment.crossed else results.compared_rows:
        name = f"{row} - {results.reference(row)}"
        for column in results.main_columns:
            if found := results.task_decisions.get((row, column)):
                texts = [
                    name,
                    column,
                    interval(found.difference, found.low, found.high),
                    p_value(found.p),
                ]
                lines.append([Cell(text) for text in texts])
                name = ""  # only in the row's first line
    return Grid("differences by task (exploratory)", head, lines, about)


def _costs(results: Results) -> Grid:
    costs = {row: results.cost(row) for row in results.rows}
    head = [name for name in COSTS if results.tuning or "trials" not in name]
    lines = [
        [Cell(row), *[Cell(number(COSTS[name](cost))) for name in head]]
        for row, cost in costs.items()
    ]
    about = [
        "all runs of a seed together, including the runs that they start from; memory: the run "
        "that uses most; encoder passes: to predict all tasks of a text",
        *notes.merging_note(results),
        *notes.trials_note(results),
    ]
    return Grid("cost", ["", *head], lines, about)


def _mean_label(results: Results) -> str:
    return "score" if results.plan.experiment.suite_score else MEAN
