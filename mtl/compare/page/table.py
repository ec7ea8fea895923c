"""The table of a page: one line per row, sortable by every column, readable without scripts."""

from html import escape

from mtl.compare.page.data import CellScore, PageData, PageRow
from mtl.compare.page.markup import badge, interval, number, quantity, with_minus

# A longer table scrolls in its own frame, under a fixed head.
MOST_ROWS_IN_FULL = 25
# The cells that a verdict is about; they are bold where a row is better.
MAIN = ' class="main"'


def table(page: PageData) -> str:
    """The table of all rows."""
    shown = [key for key in page.cost_names if any(row.costs.get(key) for row in page.rows)]
    head = [
        head_cell("row", "ascending", 'class="text" scope="col"'),
        head_cell("verdict", "ascending", 'class="text" scope="col"'),
        head_cell("difference"),
        head_cell(page.score_name),
        *[_column_head(name, examples) for name, examples in page.columns.items()],
        head_cell("seeds"),
        *[_cost_head(page.cost_names[key]) for key in shown],
    ]
    lines = [_line(page, index, row, shown) for index, row in enumerate(page.rows)]
    wide = ' class="hundreds"' if len(page.rows) > 99 else ""
    tall = " tall" if len(page.rows) > MOST_ROWS_IN_FULL else ""
    return (
        f'<div class="scroll{tall}" tabindex="0" role="region" aria-label="Table of rows">'
        f'<table id="rows"{wide}><thead><tr>{"".join(head)}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def verdict_of(page: PageData, row: PageRow) -> str:
    """The value by which the verdict chips select a row."""
    if row.name == page.baseline:
        return "baseline"
    return (row.decision.verdict if row.decision else "") or "no verdict"


def head_cell(text: str, first: str = "descending", attributes: str = 'scope="col"') -> str:
    """The head of a column that a click sorts.

    Args:
        text: Its text.
        first: The direction of the first click.
        attributes: Attributes of its element.
    """
    button = f'<button type="button">{escape(text)}</button>'
    return f'<th {attributes} data-first="{first}">{button}</th>'


def _cost_head(name: str) -> str:
    return head_cell(name.removesuffix(" (s)"), "ascending", 'class="cost" scope="col"')


def _column_head(name: str, examples: int | None) -> str:
    count = f"<small>{examples:,} examples</small>" if examples else ""
    return head_cell(name).replace("</button>", f"</button>{count}")


def _line(page: PageData, index: int, row: PageRow, shown_costs: list[str]) -> str:
    verdict = verdict_of(page, row)
    found, score = row.decision, row.scores[page.score_name]
    cells = [
        f'<th class="main" scope="row" data-sort="{index + 1:05d}">'
        f'<span class="number">{index + 1}</span>'
        f"<span>{escape(row.name)}{_against(page, row)}</span></th>",
        _verdict_cell(row, verdict),
        _cell(found.value if found else None, interval(found) if found else "", MAIN),
        _score(score, MAIN),
        *[_score(row.scores[name]) for name in page.columns],
        _cell(score.count, str(score.count)),
        *[_cost(row.costs.get(key), page.cost_names[key]) for key in shown_costs],
    ]
    return (
        f'<tr class="{verdict.replace(" ", "-")}" data-row="{index}" data-verdict="{verdict}" '
        f'data-name="{escape(row.name)}">{"".join(cells)}</tr>'
    )


def _against(page: PageData, row: PageRow) -> str:
    """Names the row compared with, where it is not the baseline."""
    if row.decision is None or row.decision.other == page.baseline:
        return ""
    return f"<small>compared with {escape(row.decision.other)}</small>"


# Sorted by verdict, the rows are in the order in which they are of use.
ORDER = ["better", "no worse", "baseline", "undecided", "worse", "no verdict"]


def _verdict_cell(row: PageRow, verdict: str) -> str:
    shown = badge(verdict) if verdict in ("better", "no worse", "undecided", "worse") else verdict
    sentence = f' data-tip="{escape(with_minus(row.decision.sentence))}"' if row.decision else ""
    return f'<td class="text" data-sort="{ORDER.index(verdict)}"{sentence}>{shown}</td>'


def _score(score: CellScore, kind: str = "") -> str:
    published = f"<small>published {escape(score.published)}</small>" if score.published else ""
    if score.mean is None:
        return f'<td class="missing" data-sort="">{escape(score.missing)}{published}</td>'
    deviation = "" if score.std is None else f" <small>± {number(score.std)}</small>"
    return _cell(score.mean, f"{number(score.mean)}{deviation}{published}", kind)


def _cost(value: float | None, name: str) -> str:
    return _cell(value, "" if value is None else quantity(value, name))


def _cell(value: float | None, text: str, kind: str = "") -> str:
    return f'<td{kind} data-sort="{"" if value is None else value}">{text}</td>'
