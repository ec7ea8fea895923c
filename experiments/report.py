"""A table's results on screen, as Markdown, CSV, LaTeX, and one HTML page."""

import csv
import html
import io
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from experiments.results import MEAN, Results
from experiments.statistics import Difference
from experiments.table import Published


@dataclass(frozen=True)
class Cell:
    """What stands in a cell.

    Args:
        text: Its text.
        bold: Whether it is the best of its column, and better than the baseline beyond noise.
        folders: Folders of the runs that it is made of.
    """

    text: str
    bold: bool = False
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Grid:
    """A part of the report: lines of cells under a head.

    Args:
        title: What it shows.
        head: Names of its columns.
        lines: Its lines, the first cell of each a name.
        notes: What is to be known of it.
    """

    title: str
    head: list[str]
    lines: list[list[Cell]]
    notes: list[str] = field(default_factory=list)


def grids(results: Results) -> list[Grid]:
    """The report's parts: scores, comparison with the baseline, cost."""
    return [_scores(results), _against(results), _costs(results)]


def _scores(results: Results) -> Grid:
    table, columns = results.plan.table, [*results.columns, MEAN]
    best = {column: max(results.rows, key=lambda row: _mean(results.scores(row, column)), default="") for column in columns}
    lines = []
    for row in results.rows:
        cells, whole = [Cell(row)], len(results.seeds(row))
        for column in columns:
            scores = results.scores(row, column)
            known = results.against.get((row, column))
            rows = known.rows if known else None
            beyond = known is not None and known.seeds.mean > 0 and known.p < 0.05 and (rows is None or rows.low > 0)
            runs = [results.run(row, seed, column) for seed in results.seeds(row)]
            folders = tuple(results.folders[run] for run in runs if run)
            text = _spread(scores) if scores else results.why_not(row)
            text += f" (n={len(scores)})" if 0 < len(scores) < whole else ""
            cells.append(Cell(text, row == best[column] and beyond, folders))
        change = results.change(row)
        cells.append(Cell("" if row == table.baseline or math.isnan(change) else f"{change:+.1f} %"))
        lines.append(cells)
        if table.published and row in table.published.rows:
            lines.append(_published(table.published, row, columns))
    counts = {column: results.tested(column) for column in results.columns}
    head = ["", *[f"{column} ({counts[column]:,})" if counts[column] else column for column in results.columns]]
    size = results.plan.size
    options = " ".join(f"{name} {value}" for name, value in size.options.items())
    notes = [
        f"size {results.plan.name}: {size.about} Backbone {size.backbone}; {options} {' '.join(results.plan.more)}".rstrip(),
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
        for column in (*results.columns, MEAN):
            if found := results.against.get((row, column)):
                name = f"{row} - {results.other(row)} ({wins} better, {losses} worse)" if column == results.columns[0] else ""
                rows = found.rows
                cells = [name, column if column != MEAN else _name_of_mean(results), _interval(found.seeds), _p(found.p)]
                cells += [_p(found.permutation), _interval(rows) if rows else "", _p(rows.p) if rows else ""]
                lines.append([Cell(text) for text in cells])
    head = ["", "task", "over seeds [95 %]", "p (t, Holm)", "p (signs)", "over test rows [95 %]", "p (rows)"]
    notes = [
        "difference in hundredths; over seeds: paired by seed, Student's t, corrected over a row's columns (Holm)",
        f"p (signs): exact permutation of the differences' signs; with {len(results.plan.seeds)} seeds it cannot be less than "
        f"{2 / 2 ** len(results.plan.seeds):.3g}; it and p (rows) are not corrected",
        "over test rows: the seeds' mean metric on test rows drawn again with replacement (bootstrap), the same rows for both",
    ]
    return Grid("differences", head, lines, notes)


def _costs(results: Results) -> Grid:
    lines = []
    for row in results.rows:
        cost = results.cost(row)
        speed = cost.examples / cost.seconds if cost.examples and cost.seconds else None
        texts = [_number(cost.examples), _number(cost.steps), _number(cost.seconds), _number(speed)]
        texts += [_number(cost.memory and cost.memory / 2**20), _number(cost.trained), _number(cost.total)]
        lines.append([Cell(row), *map(Cell, texts)])
    head = ["", "examples", "steps", "seconds", "examples/s", "peak memory (MiB)", "trained parameters", "all parameters"]
    notes = ["all runs of a seed together, those that it starts from included; memory is that of the largest run"]
    return Grid("what it takes", head, lines, notes)


def _published(published: Published, row: str, columns: Sequence[str]) -> list[Cell]:
    figures = published.rows[row]
    mark = "" if published.verified else " (unverified)"
    return [Cell(f"  published{mark}"), *[Cell(str(figures.get(column, ""))) for column in columns], Cell("")]


def show(parts: Sequence[Grid]) -> None:
    """Prints the report."""
    console = Console()
    for part in parts:
        table = RichTable(title=part.title, title_justify="left")
        for place, name in enumerate(part.head):
            table.add_column(name, justify="left" if place == 0 else "right")
        for line in part.lines:
            table.add_row(*[f"[bold]{cell.text}[/bold]" if cell.bold else cell.text.replace("[", "\\[") for cell in line])
        console.print(table)
        for note in part.notes:
            console.print(f"  {note}", highlight=False, markup=False)


def markdown(parts: Sequence[Grid], folder: Path) -> str:
    """The report as Markdown; each cell is linked to the folder of its first run."""
    texts = []
    for part in parts:
        lines = [part.head, ["---", *["---:"] * (len(part.head) - 1)]]
        lines += [[_linked(cell, folder) for cell in line] for line in part.lines]
        rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        texts.append(f"### {part.title}\n\n{rows}\n\n" + "\n".join(f"* {note}" for note in part.notes))
    return "\n\n".join(texts) + "\n"


def _linked(cell: Cell, folder: Path) -> str:
    text = f"**{cell.text}**" if cell.bold else cell.text
    return f"[{text}]({os.path.relpath(cell.folders[0], folder)})" if cell.folders and text else text


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
                    writer.writerow([row, seed, column, f"{score:.4f}", results.folders[run] if run else ""])
    return out.getvalue()


def latex(part: Grid) -> str:
    """A part of the report as a LaTeX table with booktabs' rules."""
    lines = [" & ".join(_tex(cell.text, cell.bold) for cell in line) + r" \\" for line in part.lines]
    head = " & ".join(_tex(name) for name in part.head) + r" \\"
    parts = [rf"\begin{{tabular}}{{l{'r' * (len(part.head) - 1)}}}", r"\toprule", head, r"\midrule", *lines, r"\bottomrule"]
    notes = "".join(f"% {note}\n" for note in part.notes)
    return f"% {part.title}\n{notes}" + "\n".join([*parts, r"\end{tabular}"]) + "\n"


SIGNS = {"\\": r"\textbackslash{}", "<": "$<$", ">": "$>$", "±": r"$\pm$", "Δ": r"$\Delta$"}
TEX = str.maketrans({sign: f"\\{sign}" for sign in "&%$#_{}"} | SIGNS)


def _tex(text: str, bold: bool = False) -> str:
    text = text.translate(TEX)
    return rf"\textbf{{{text}}}" if bold else text


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
thead th, tbody tr:last-child td { border-bottom: 2px solid #222 }
tbody tr:nth-child(even) { background: #f4f6f8 }
a { color: inherit; text-decoration: underline dotted }
li { color: #555 }
img { max-width: 100% }
"""


def page(parts: Sequence[Grid], pictures: dict[str, str], folder: Path) -> str:
    """The report as one HTML page that needs nothing else; pictures are given as data URLs by title."""
    body = []
    for place, part in enumerate(parts):
        level = "h1" if place == 0 else "h2"
        head = "".join(f"<th>{html.escape(name)}</th>" for name in part.head)
        lines = "".join(f"<tr>{''.join(_td(cell, folder) for cell in line)}</tr>" for line in part.lines)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in part.notes)
        body.append(
            f"<{level}>{html.escape(part.title)}</{level}><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
            f"<ul>{notes}</ul>"
        )
    body += [f'<h2>{html.escape(title)}</h2><img alt="{html.escape(title)}" src="{data}">' for title, data in pictures.items()]
    title = html.escape(parts[0].title)
    start = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f"{start}{''.join(body)}</html>\n"


def _td(cell: Cell, folder: Path) -> str:
    text = html.escape(cell.text)
    text = f"<b>{text}</b>" if cell.bold else text
    if cell.folders:
        runs = "\n".join(str(run) for run in cell.folders)
        target = html.escape(os.path.relpath(cell.folders[0], folder))
        text = f'<a href="{target}" title="{html.escape(runs)}">{text}</a>'
    return f"<td>{text}</td>"


def _name_of_mean(results: Results) -> str:
    return "score" if results.plan.table.score else MEAN


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else -math.inf


def _spread(values: Sequence[float]) -> str:
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
