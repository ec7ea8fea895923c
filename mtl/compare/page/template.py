"""Fills the template of a page."""

import base64
import hashlib
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from mtl.compare.page import markup
from mtl.compare.page.chart_json import chart_json
from mtl.compare.page.data import PageData
from mtl.compare.page.table import ORDER, table, verdict_of

SCRIPTS = ("page.js", "charts.js", "maps.js")


def render(page: PageData) -> str:
    """The page as one HTML file.

    Args:
        page: What it shows.
    """
    return document(page.question, _body(page), chart_json(page), SCRIPTS)


def document(title: str, body: str, data: str, scripts: tuple[str, ...]) -> str:
    """An HTML document with the style sheet and scripts in it.

    A content security policy allows these scripts only, so that a text that was not escaped could
    not run anything.

    Args:
        title: Its title.
        body: Its body, as HTML.
        data: The data of the scripts, as JSON.
        scripts: File names of the scripts.
    """
    script = "\n".join(map(asset, scripts))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(asset("page.html")).substitute(
        title=escape(title),
        style=asset("page.css"),
        script=script,
        script_hash=f"sha256-{digest}",
        data=data,
        body=body,
    )


@cache
def asset(name: str) -> str:
    """The contents of a file of this package."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _body(page: PageData) -> str:
    parts = {
        "problems": markup.problems(page.problems),
        "downloads": markup.downloads(page),
        "notes": markup.notes(page.notes),
        "crossed": _crossed(page),
    }
    costs = any(value for row in page.rows for value in row.costs.values())
    optional = {"cost": costs, "pairs": bool(page.pairs), "curves": bool(page.curves)}
    sections = {
        "table": "Rows",
        "crossed": parts["crossed"] and "Map",
        "differences": "Differences",
        "cost": costs and "Cost",
        "pairs": page.pairs and "All pairs",
        "curves": page.curves and "Learning curves",
        "problems": page.problems and f"Failed and missing ({len(page.problems)})",
        "files": parts["downloads"] and "Files",
        "notes": page.notes and "Settings",
    }
    links = [f'<a href="#{name}">{text}</a>' for name, text in sections.items() if text]
    return Template(asset("body.html")).substitute(
        parts,
        kicker=_kicker(page),
        question=escape(page.question),
        verdict=markup.verdict(page.verdict),
        warnings=markup.warnings(page.warnings),
        navigation="".join(links),
        table_hint=_table_hint(page),
        chips=_chips(page),
        table=table(page),
        about_rows=_about_rows(page),
        margin=f"{page.margin:g} point{'' if page.margin == 1 else 's'}",
        key=_key(),
        footer="Scores and differences are in points (hundredths). This file needs no network.",
        **{f"no_{name}": "" if shown else " hidden" for name, shown in optional.items()},
    )


def _kicker(page: PageData) -> str:
    rows, tasks, seeds = len(page.rows), len(page.columns), len(page.seeds)
    parts = [
        page.name,
        f"{rows} rows",
        f"{tasks} {'task' if tasks == 1 else 'tasks'}",
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}",
    ]
    return " · ".join(map(escape, parts))


def _table_hint(page: PageData) -> str:
    return (
        f"Each row is compared with its baseline, <b>{escape(page.baseline)}</b>: the difference "
        "of the mean scores and its 95&nbsp;% interval, over seeds and test examples, corrected "
        "for the number of rows. Scores: mean ± standard deviation over seeds. Bold: better; "
        "grey: worse."
    )


def _chips(page: PageData) -> str:
    present = {verdict_of(page, row) for row in page.rows}
    return "".join(
        f'<label><input type="checkbox" value="{verdict}" checked>{verdict}</label>'
        for verdict in ORDER
        if verdict in present
    )


def _about_rows(page: PageData) -> str:
    items = "".join(
        f"<dt>{escape(row.name)}</dt>"
        + (f"<dd>{escape(row.about)}</dd>" if row.about else "")
        + (f"<dd>{escape(markup.with_minus(row.decision.sentence))}</dd>" if row.decision else "")
        for row in page.rows
    )
    summary = "<summary>How each row is trained, and its verdict</summary>"
    return f"<details>{summary}<dl>{items}</dl></details>"


def _crossed(page: PageData) -> str:
    if page.crossed is None:
        return ""
    across, down = map(escape, page.crossed.names)
    return (
        '<section id="crossed" class="needs-js" aria-labelledby="crossed-title">'
        f'<h2 id="crossed-title">Map of {across} and {down}</h2>'
        f'<p class="hint">Difference from the baseline in points; {across} across, {down} down.'
        f'</p><p class="key" aria-hidden="true">{_key()}</p>'
        '<div id="chart-crossed" class="scroll" tabindex="0" role="region" '
        f'aria-label="Differences by {across} and {down}"></div></section>'
    )


def _key() -> str:
    return "".join(f"<span>{glyph} {verdict}</span>" for verdict, glyph in markup.GLYPHS.items())
