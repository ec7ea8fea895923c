"""Pieces of HTML. Every text is escaped here; names and error messages are not trusted."""

import base64
import re
from html import escape

from mtl.compare.page.data import Difference, Download, PageData, Problem

GLYPHS = {"better": "▲", "no worse": "≥", "undecided": "?", "worse": "▼"}
MINUS = "\N{MINUS SIGN}"
HYPHEN = re.compile(r"(?<![\w.])-(?=\d)")


def number(value: float, digits: int = 1) -> str:
    """A number with a minus sign instead of a hyphen."""
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)


def signed(value: float) -> str:
    """A difference with its sign."""
    text = number(value)
    return text if text == "0.0" or value < 0 else f"+{text}"


def with_minus(sentence: str) -> str:
    """A sentence in which the hyphens before numbers are minus signs."""
    return HYPHEN.sub(MINUS, sentence)


TIMES = ((3600.0, " h", 5400.0), (60.0, " min", 90.0), (1.0, " s", 0.0))
COUNTS = ((1e9, " G", 1e9), (1e6, " M", 1e6), (1e3, " k", 1e3), (1.0, "", 0.0))


def quantity(value: float, name: str) -> str:
    """A cost with its unit: seconds, minutes or hours where its name ends with `(s)`."""
    seconds = name.endswith("(s)")
    size, unit, _ = next(entry for entry in (TIMES if seconds else COUNTS) if value >= entry[2])
    digits = 2 if seconds and value / size < 100 else 3
    return f"{value / size:.{digits}g}{unit}"


def badge(verdict: str, count: int | None = None) -> str:
    """A verdict as a coloured label with a sign, so that colour is not needed to read it.

    Args:
        verdict: The verdict.
        count: The number of rows that have it. Default: the label is of one row.
    """
    kind, text = verdict.replace(" ", "-"), verdict if count is None else f"{count} {verdict}"
    sign = f'<span aria-hidden="true">{GLYPHS[verdict]}</span>'
    return f'<span class="badge {kind}">{sign} {escape(text)}</span>'


def interval(difference: Difference) -> str:
    """A difference, and its interval in a second line."""
    text = signed(difference.value)
    if difference.low is None or difference.high is None:
        return text
    return f"{text} <small>[{number(difference.low)}, {number(difference.high)}]</small>"


# More sentences of a verdict than this are folded, and longer ones.
MAX_SENTENCES = 7
MAX_LETTERS = 400


def verdict(texts: list[str]) -> str:
    """The sentences of a verdict: the first one large, the others as a list."""
    first, *others = map(_sentence, texts)
    items = [f"<li>{text}</li>" for text in others]
    shown = f"<ul>{''.join(items[:MAX_SENTENCES])}</ul>" if items else ""
    folded = ""
    if rest := items[MAX_SENTENCES:]:
        folded = f"<details><summary>{len(rest)} more</summary><ul>{''.join(rest)}</ul></details>"
    return f"<p>{first}</p>{shown}{folded}"


def _sentence(text: str) -> str:
    shown = escape(with_minus(text))
    if len(text) <= MAX_LETTERS:
        return shown
    start = escape(with_minus(text[:100]))
    return f"<details><summary>{start}…</summary>{shown}</details>"


def warnings(texts: list[str]) -> str:
    """Warnings as a list; nothing without warnings."""
    items = "".join(f"<li>{escape(with_minus(text))}</li>" for text in texts)
    return f'<ul class="warnings" aria-label="Warnings">{items}</ul>' if texts else ""


def section(name: str, title: str, body: str) -> str:
    """A section with its heading."""
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{title}</h2>{body}</section>'
    )


def problems(found: list[Problem]) -> str:
    """The failed and missing runs with their messages and logs; nothing if there are none."""
    if not found:
        return ""
    items = []
    for problem in found:
        message = f"<br>{escape(problem.message)}" if problem.message else ""
        log = f"<code>{escape(problem.log)}</code>" if problem.log else ""
        items.append(f"<li><b>{escape(problem.run)}</b>: {problem.status}{message}{log}</li>")
    body = f'<ul class="problems">{"".join(items)}</ul>'
    return section("problems", "Failed and missing runs", body)


def downloads(page: PageData) -> str:
    """The run to use, the command, and the files as links that hold their contents."""
    command = ""
    if page.command:
        command = f"<p>Computed with</p><pre>{escape(page.command)}</pre>"
    items = "".join(map(_download, page.downloads))
    shipping = f"<pre>{escape(chr(10).join(page.shipping))}</pre>" if page.shipping else ""
    body = f'{shipping}{command}<ul class="files">{items}</ul>'
    return section("files", "Files", body) if shipping or command or items else ""


def _download(file: Download) -> str:
    contents = base64.b64encode(file.contents).decode()
    return (
        f'<li><a download="{escape(file.name)}" href="data:{file.media_type};base64,{contents}">'
        f"{escape(file.name)}<small>{escape(file.about)}</small></a></li>"
    )


def notes(texts: list[str]) -> str:
    """How the runs were made, folded."""
    if not texts:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    body = f'<details open><summary>Settings</summary><ul class="notes">{items}</ul></details>'
    return section("notes", "How the runs were made", body)
