"""What a table says: its grids, and the same as numbers."""

import csv
import io
import math
import statistics
from collections.abc import Sequence
from itertools import product
from pathlib import PurePath
from typing import Any

from experiments.plan import word_of
from experiments.rendering import Cell, Grid
from experiments.results import Results
from experiments.statistics import Difference
from experiments.table import MEAN, Published, Row


def grids(results: Results, links: dict[tuple[str, str], str]) -> list[Grid]:
    """The report's parts: scores, comparison with the baseline, cost; in front of them the map of what is crossed.

    Args:
        results: What was found.
        links: For each row and column the folder with links to its runs.
    """
    scores, *others = [_scores(results, links), _against(results), _costs(results)]
    found = [
        scores,
        *(part for part in others if part.lines),
    ]  # without the empty ones, where all has failed
    return [_map(results, links), *found] if results.plan.table.crossed else found


def _map(results: Results, links: dict[tuple[str, str], str]) -> Grid:
    """The means of crossed rows: the last set's parts down, the first one's across."""
    table = results.plan.table
    across, down = (list(parts) for parts in table.crossed.values())
    down = [
        row for row in down if any(f"{one}, {row}" in results.rows for one in across)
    ]  # a size may lack some
    across = [one for one in across if any(f"{one}, {row}" in results.rows for row in down)]
    pairs = {(one, row): f"{one}, {row}" for one, row in product(across, down)}
    found = {
        pair: results.scores(name, MEAN) if name in results.rows else []
        for pair, name in pairs.items()
    }
    lines = []
    for name in down:
        cells = [
            Cell(_spread(found[one, name]), runs=links.get((f"{one}, {name}", MEAN), ""))
            for one in across
        ]
        lines.append(
            [
                Cell(name),
                *cells,
                Cell(_spread([score for one in across for score in found[one, name]])),
            ]
        )
    means = [[score for row in down for score in found[one, row]] for one in across]
    lines.append(
        [
            Cell("all"),
            *map(Cell, map(_spread, means)),
            Cell(_spread([score for scores in means for score in scores])),
        ]
    )
    baseline = _spread(results.scores(table.baseline, MEAN))
    notes = [
        f"{_name_of_mean(results)} over tasks, mean ± sample standard deviation over seeds; {table.baseline}: {baseline}",
        f"all: over every run of its {' or '.join(table.crossed)}",
    ]
    return Grid(
        f"{' and '.join(table.crossed)}: {table.question}", ["", *across, "all"], lines, notes
    )


def _scores(results: Results, links: dict[tuple[str, str], str]) -> Grid:
    table, columns = results.plan.table, [*results.columns, MEAN]
    best = {
        column: max(results.rows, key=lambda row: _mean(results.scores(row, column)), default="")
        for column in columns
    }
    lines = []
    for row in results.rows:
        cells, whole = [Cell(row)], len(results.seeds(row))
        for column in columns:
            scores = results.scores(row, column)
            known = results.against.get((row, column))
            rows = known.rows if known else None
            beyond = (
                known is not None
                and known.seeds.mean > 0
                and known.seeds.p < 0.05
                and rows is not None
                and rows.low > 0
            )
            text = _spread(scores) if scores else results.why_not(row)
            text += f" (n={len(scores)})" if 0 < len(scores) < whole else ""
            cells.append(Cell(text, row == best[column] and beyond, links.get((row, column), "")))
        change = results.change(row)
        cells.append(
            Cell("" if row == table.baseline or math.isnan(change) else f"{change:+.1f} %")
        )
        lines.append(cells)
        if table.published and row in table.published.rows:
            lines.append(_published(table.published, row, columns))
    counts = {column: results.tested(column) for column in results.columns}
    head = [
        "",
        *[
            f"{column} ({counts[column]:,})" if counts[column] else column
            for column in results.columns
        ],
    ]
    size = results.plan.size
    words = [
        word for name, value in size.options.items() for word in (name, word_of(value, size.values))
    ]
    more = results.plan.more
    given = more[more.index("--backbone") + 1] if "--backbone" in more[:-1] else size.backbone
    backbone, *options = shown_words([given, *words, *more])
    notes = [
        " ".join(
            f"size {results.plan.name}: {size.about} Backbone {backbone}; {' '.join(options)}".split()
        ),
        *(
            []
            if table.crossed
            else [_own(name, row, size.values) for name, row in table.rows.items()]
        ),
        f"mean ± sample standard deviation over seeds {list(results.plan.seeds)}; in brackets the number of test rows",
        f"Δm: mean over tasks of the change against {table.baseline!r}",
        "bold: the best of its column, and better than the row it is compared with: p < 0.05 over seeds (paired t, Holm over a "
        "row's columns, not over rows), and an interval over test rows above 0",
        f"budget of every row: {table.budget}",
        *results.notes(),
    ]
    if table.published:
        mark = "" if table.published.verified else ", not verified"
        notes.append(f"published: {table.published.source}{mark}")
    return Grid(table.question, [*head, _name_of_mean(results), "Δm"], lines, notes)


def _against(results: Results) -> Grid:
    lines = []
    for row in results.rows:
        if row == results.plan.table.baseline:
            continue
        wins, losses = results.wins(row)
        name = f"{row} - {results.other(row)} ({wins} tasks better, {losses} worse)"
        for column in (
            [MEAN] if results.plan.table.crossed else [*results.columns, MEAN]
        ):  # all are in `table.csv`
            if found := results.against.get((row, column)):
                rows = found.rows
                cells = [
                    name,
                    column if column != MEAN else _name_of_mean(results),
                    _interval(found.seeds),
                    _p(found.seeds.p),
                ]
                cells += [
                    _p(found.permutation),
                    _interval(rows) if rows else "",
                    _p(rows.p) if rows else "",
                ]
                cells += ["" if math.isnan(found.relative) else f"{found.relative:+.1f} %"]
                lines.append([Cell(text) for text in cells])
                name = ""  # once is enough
    head = [
        "",
        "task",
        "over seeds [95 %]",
        "p (t, Holm)",
        "p (signs)",
        "over test rows [95 %]",
        "p (rows)",
        "change",
    ]
    notes = [
        "difference in hundredths; p-values are corrected over a row's columns (Holm), not over rows",
        "over seeds: paired by seed, Student's t; p (signs): exact permutation of the differences' signs, which with "
        f"{len(results.plan.seeds)} seeds cannot be less than {2 / 2 ** len(results.plan.seeds):.3g} before correction",
        "over test rows: the seeds' mean metric on test rows drawn again with replacement (bootstrap), the same rows for both",
        "change: the difference in per cent of the other's score",
    ]
    return Grid("differences", head, lines, notes)


def _costs(results: Results) -> Grid:
    lines = []
    for row in results.rows:
        cost = results.cost(row)
        speed = cost.examples / cost.seconds if cost.examples and cost.seconds else None
        texts = [_number(cost.examples), _number(cost.steps), _number(cost.seconds), _number(speed)]
        texts += [
            _number(cost.memory and cost.memory / 2**20),
            _number(cost.trained),
            _number(cost.total),
        ]
        lines.append([Cell(row), *map(Cell, texts)])
    head = [
        "",
        "examples",
        "steps",
        "seconds",
        "examples/s",
        "peak memory (MiB)",
        "trained parameters",
        "all parameters",
    ]
    notes = [
        "all runs of a seed together, those that it starts from included; memory is that of the largest run"
    ]
    if any(row.grid for row in results.plan.table.rows.values()):
        notes.append("of a grid or a search, the run that was chosen alone")
    return Grid("what it takes", head, lines, notes)


def _own(name: str, row: Row, values: dict[str, Any]) -> str:
    """What a row has beside the size's options."""
    words = [
        word for option, value in row.options.items() for word in (option, word_of(value, values))
    ]
    words += [word for option, used in row.uses.items() for word in (option, f"of {used!r}")]
    of = {
        "suite": "all tasks in one run",
        "task": "a run for each task",
        "held_out": "a run without each task",
    }[row.of]
    return f"{name}: {of}; {' '.join([*([] if row.command == 'fit' else [f'command {row.command}']), *row.configs, *words])}"


def _published(published: Published, row: str, columns: Sequence[str]) -> list[Cell]:
    figures = published.rows[row]
    mark = "" if published.verified else " (unverified)"
    return [
        Cell(f"  published{mark}"),
        *[Cell(str(figures.get(column, ""))) for column in columns],
        Cell(""),
    ]


def shown_words(words: Sequence[str]) -> list[str]:
    """Words of a command without where this machine keeps its files: of a path its last part."""
    return [PurePath(word).name if PurePath(word).is_absolute() else word for word in words]


def summary(results: Results) -> list[dict[str, Any]]:
    """For each row and column what was found, as numbers: scores in hundredths, and the comparison where there is one."""
    found = []
    for row, column in product(results.rows, (*results.columns, MEAN)):
        scores, against = results.scores(row, column), results.against.get((row, column))
        line: dict[str, Any] = {"row": row, "column": column, "n": len(scores)}
        line["mean"] = statistics.fmean(scores) if scores else None
        line["std"] = statistics.stdev(scores) if len(scores) > 1 else None
        line["test_rows"] = results.tested(column) if column != MEAN else None
        line["against"] = results.other(row) if against else None
        for kind in ("seeds", "rows"):
            difference = getattr(against, kind, None)
            for name in Difference._fields:
                line[f"{kind}_{name}"] = _known(getattr(difference, name, None))
        line["signs_p"] = _known(against.permutation if against else None)
        line["relative_percent"] = _known(against.relative if against else None)
        found.append(line)
    return found


def summary_csv(results: Results) -> str:
    """The same, a line for each row and column."""
    out = io.StringIO()
    lines = summary(results)
    writer = csv.DictWriter(out, list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def long_csv(results: Results) -> str:
    """Every score by itself: row, seed, task, score in hundredths, folder."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["row", "seed", "task", "score", "folder"])
    for row in results.rows:
        for seed in results.seeds(row):
            for column in (*results.columns, MEAN):
                score, run = results.score(row, seed, column), results.run(row, seed, column)
                if score is not None:
                    writer.writerow(
                        [row, seed, column, f"{score:.4f}", results.folders[run] if run else ""]
                    )
    return out.getvalue()


def _name_of_mean(results: Results) -> str:
    return "score" if results.plan.table.score else MEAN


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else -math.inf


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{deviation}"


def _interval(difference: Difference) -> str:
    if math.isnan(difference.low):
        return f"{difference.mean:+.1f}"
    return f"{difference.mean:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]"


def _p(value: float) -> str:
    return "" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
