"""A report on screen, as Markdown and as LaTeX."""

import sys
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable


@dataclass(frozen=True)
class Cell:
    """A cell of a grid.

    Args:
        text: Its text.
        bold: Whether its row is better than the row that it is compared with.
        runs: Folder with links to its runs, relative to the table's folder.
        dim: Whether its row is worse than the row that it is compared with.
    """

    text: str
    bold: bool = False
    runs: str = ""
    dim: bool = False


@dataclass(frozen=True)
class Grid:
    """A printed grid of the report: lines of cells under a head.

    Args:
        title: Its title.
        head: Names of its columns.
        lines: Its lines; the first cell of each is the line's name.
        notes: Notes printed under it.
    """

    title: str
    head: list[str]
    lines: list[list[Cell]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """The report of a table: the verdict first, then the grids.

    Args:
        question: The question that the table answers.
        verdict: Sentences: which row to use, what is better or worse, what is undecided.
        warnings: What limits the verdict.
        grids: The table, differences by task, costs.
        shipping: Which run of the recommended row to use, and the commands that do so.
    """

    question: str
    verdict: list[str]
    warnings: list[str]
    grids: list[Grid]
    shipping: list[str] = field(default_factory=list)


def show(report: Report) -> None:
    """Prints a report on the screen."""
    width = None if sys.stdout.isatty() else 200  # lines of a file may be long
    console = Console(width=width)
    console.print(f"[bold]{escape(report.question)}[/bold]", highlight=False)
    for sentence in report.verdict:
        console.print(f"  {sentence}", highlight=False, markup=False)
    for warning in report.warnings:
        console.print(f"  [yellow]Warning: {escape(warning)}[/yellow]", highlight=False)
    for grid in report.grids:
        table = RichTable(title=grid.title, title_justify="left")
        for index, name in enumerate(grid.head):
            table.add_column(name, justify="right" if index else "left")
        for line in grid.lines:
            table.add_row(*map(_markup, line))
        console.print(table)
        for note in grid.notes:
            console.print(f"  {note}", highlight=False, markup=False)
    for shipping in report.shipping:
        console.print(shipping, highlight=False, markup=False, soft_wrap=True)


def _markup(cell: Cell) -> str:
    text = escape(cell.text)
    style = "bold" if cell.bold else "dim" if cell.dim else ""
    return f"[{style}]{text}[/{style}]" if style else text


def markdown(report: Report) -> str:
    """A report as Markdown; each cell links to its runs."""
    verdict = "\n".join(f"* {sentence}" for sentence in report.verdict)
    warnings = "\n".join(f"* Warning: {warning}" for warning in report.warnings)
    head = [f"### {report.question}", verdict, warnings]
    shipping = ["\n".join(["```text", *report.shipping, "```"])] if report.shipping else []
    parts = [*filter(None, head), *map(_markdown_grid, report.grids), *shipping]
    return "\n\n".join(parts) + "\n"


def _markdown_grid(grid: Grid) -> str:
    lines = [grid.head, ["---", *["---:"] * (len(grid.head) - 1)]]
    lines += [[_markdown_cell(cell) for cell in line] for line in grid.lines]
    rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    notes = "\n".join(f"* {note}" for note in grid.notes)
    return f"#### {grid.title}\n\n{rows}\n\n{notes}"


def _markdown_cell(cell: Cell) -> str:
    text = cell.text.replace("|", "\\|")
    text = f"**{text}**" if cell.bold else text
    return f"[{text}]({cell.runs})" if cell.runs and text else text


def latex(grid: Grid) -> str:
    """A grid as a LaTeX table with the rules of booktabs and the colours of xcolor."""
    lines = [
        " & ".join(_tex(cell.text, cell.bold, cell.dim) for cell in line) + r" \\"
        for line in grid.lines
    ]
    head = " & ".join(_tex(name) for name in grid.head) + r" \\"
    body = [
        rf"\begin{{tabular}}{{l{'r' * (len(grid.head) - 1)}}}",
        r"\toprule",
        head,
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    notes = "".join(f"% {note}\n" for note in grid.notes)
    return f"% {grid.title}\n{notes}" + "\n".join(body) + "\n"


SIGNS = {"\\": r"\textbackslash{}", "<": "$<$", ">": "$>$", "±": r"$\pm$", "Δ": r"$\Delta$"}
SIGNS |= {"^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "|": r"\textbar{}"}
TEX = str.maketrans({sign: f"\\{sign}" for sign in "&%$#_{}"} | SIGNS)


def _tex(text: str, bold: bool = False, dim: bool = False) -> str:
    text = text.translate(TEX)
    if bold:
        return rf"\textbf{{{text}}}"
    return rf"\textcolor{{gray}}{{{text}}}" if dim else text
