"""Grids of cells on screen, as Markdown, LaTeX, and one HTML page."""

import html
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table as RichTable


@dataclass(frozen=True)
class Cell:
    """What stands in a cell.

    Args:
        text: Its text.
        bold: Whether it is the best of its column, and better than the baseline beyond noise.
        runs: Folder with links to the runs that it is made of, from the table's own.
    """

    text: str
    bold: bool = False
    runs: str = ""


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


def show(parts: Sequence[Grid]) -> None:
    """Prints the report."""
    wide = None if sys.stdout.isatty() else 200  # in a file lines may be long
    console = Console(width=wide)
    for part in parts:
        table = RichTable(title=part.title, title_justify="left")
        for place, name in enumerate(part.head):
            table.add_column(name, justify="left" if place == 0 else "right")
        for line in part.lines:
            table.add_row(
                *[
                    f"[bold]{cell.text}[/bold]" if cell.bold else cell.text.replace("[", "\\[")
                    for cell in line
                ]
            )
        console.print(table)
        for note in part.notes:
            console.print(f"  {note}", highlight=False, markup=False)


def markdown(parts: Sequence[Grid]) -> str:
    """The report as Markdown; each cell is linked to its runs."""
    texts = []
    for part in parts:
        lines = [part.head, ["---", *["---:"] * (len(part.head) - 1)]]
        lines += [[_linked(cell) for cell in line] for line in part.lines]
        rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        texts.append(
            f"### {part.title}\n\n{rows}\n\n" + "\n".join(f"* {note}" for note in part.notes)
        )
    return "\n\n".join(texts) + "\n"


def _linked(cell: Cell) -> str:
    text = cell.text.replace("|", "\\|")
    text = f"**{text}**" if cell.bold else text
    return f"[{text}]({cell.runs})" if cell.runs and text else text


def latex(part: Grid) -> str:
    """A part of the report as a LaTeX table with booktabs' rules."""
    lines = [
        " & ".join(_tex(cell.text, cell.bold) for cell in line) + r" \\" for line in part.lines
    ]
    head = " & ".join(_tex(name) for name in part.head) + r" \\"
    parts = [
        rf"\begin{{tabular}}{{l{'r' * (len(part.head) - 1)}}}",
        r"\toprule",
        head,
        r"\midrule",
        *lines,
        r"\bottomrule",
    ]
    notes = "".join(f"% {note}\n" for note in part.notes)
    return f"% {part.title}\n{notes}" + "\n".join([*parts, r"\end{tabular}"]) + "\n"


SIGNS = {"\\": r"\textbackslash{}", "<": "$<$", ">": "$>$", "±": r"$\pm$", "Δ": r"$\Delta$"}
SIGNS |= {"^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "|": r"\textbar{}"}
TEX = str.maketrans({sign: f"\\{sign}" for sign in "&%$#_{}"} | SIGNS)


def _tex(text: str, bold: bool = False) -> str:
    text = text.translate(TEX)
    return rf"\textbf{{{text}}}" if bold else text


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left; white-space: normal }
thead th, tbody tr:last-child td { border-bottom: 2px solid #222 }
tbody tr:nth-child(even) { background: #f4f6f8 }
a { color: inherit; text-decoration: underline dotted }
li { color: #555 }
img { max-width: 100% }
"""


def page(parts: Sequence[Grid], pictures: dict[str, str]) -> str:
    """The report as one HTML page that needs nothing else; pictures are given as data URLs by title."""
    body = []
    for place, part in enumerate(parts):
        level = "h1" if place == 0 else "h2"
        head = "".join(f"<th>{html.escape(name)}</th>" for name in part.head)
        lines = "".join(f"<tr>{''.join(_td(cell) for cell in line)}</tr>" for line in part.lines)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in part.notes)
        body.append(
            f"<{level}>{html.escape(part.title)}</{level}><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
            f"<ul>{notes}</ul>"
        )
    body += [
        f'<h2>{html.escape(title)}</h2><img alt="{html.escape(title)}" src="{data}">'
        for title, data in pictures.items()
    ]
    title = html.escape(parts[0].title)
    start = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f"{start}{''.join(body)}</html>\n"


def _td(cell: Cell) -> str:
    text = html.escape(cell.text)
    text = f"<b>{text}</b>" if cell.bold else text
    return (
        f'<td><a href="{html.escape(cell.runs)}">{text}</a></td>'
        if cell.runs
        else f"<td>{text}</td>"
    )
