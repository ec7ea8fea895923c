"""The index page: one line per comparison, with its verdict."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Self
from urllib.parse import quote

from mtl.compare.page.data import PageData
from mtl.compare.page.markup import badge, with_minus
from mtl.compare.page.table import head_cell
from mtl.compare.page.template import asset, document
from mtl.errors import UserError

# The file in a comparison's folder that the index reads.
SUMMARY = "summary.json"


@dataclass(frozen=True)
class Summary:
    """A comparison in the index.

    Attributes:
        name: Its name.
        question: The question that it answers.
        answer: Which row to use, in one sentence.
        verdicts: The number of rows with each verdict.
        rows: The number of rows.
        seeds: The number of seeds.
        problems: The number of failed and missing runs that its page lists.
    """

    name: str
    question: str
    answer: str
    verdicts: dict[str, int]
    rows: int
    seeds: int
    problems: int

    @classmethod
    def of(cls, page: PageData) -> Self:
        """The summary of a page."""
        return cls(
            page.name,
            page.question,
            page.verdict[0],
            dict(Counter(row.decision.verdict for row in page.rows if row.decision)),
            len(page.rows),
            len(page.seeds),
            len(page.problems),
        )

    def json(self) -> str:
        """The contents of its file."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


def read_summaries(tables: Path) -> dict[str, Summary]:
    """The summaries of the comparisons in a folder, by the link to their page.

    Args:
        tables: The folder with a folder for each comparison.

    Raises:
        UserError: If a summary was not written by this version.
    """
    return {
        f"{quote(path.parent.name)}/table.html": _read(path)
        for path in sorted(tables.glob(f"*/{SUMMARY}"))
    }


def _read(path: Path) -> Summary:
    try:
        return Summary(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path}: not a summary of a comparison ({error}); delete the file, or report that "
            "comparison again"
        ) from error


def render_index(title: str, about: str, summaries: dict[str, Summary]) -> str:
    """The index as one HTML file.

    Args:
        title: Its title.
        about: What it lists.
        summaries: The comparisons by the link to their page.
    """
    heads = [
        head_cell("comparison", "ascending", 'class="text" scope="col"'),
        head_cell("verdicts", attributes='class="text" scope="col"'),
        head_cell("rows"),
        head_cell("seeds"),
        head_cell("missing or failed"),
    ]
    lines = [_line(link, summary) for link, summary in summaries.items()]
    body = Template(asset("index.html")).substitute(
        title=escape(title), about=escape(about), head="".join(heads), lines="".join(lines)
    )
    return document(title, body, "{}", ("page.js",))


def _line(link: str, summary: Summary) -> str:
    found = f"{summary.name} {summary.question} {summary.answer}"
    cells = [
        f'<th class="main" scope="row" data-sort="{escape(summary.question)}">'
        f'<a href="{escape(link)}">{escape(summary.question)}</a>'
        f"<small>{escape(with_minus(summary.answer))}</small></th>",
        f'<td class="text" data-sort="{summary.verdicts.get("better", 0)}">'
        f"{_badges(summary.verdicts)}</td>",
        *[
            f'<td data-sort="{count}">{count}</td>'
            for count in (summary.rows, summary.seeds, summary.problems)
        ],
    ]
    return f'<tr data-name="{escape(found)}">{"".join(cells)}</tr>'


def _badges(verdicts: dict[str, int]) -> str:
    order: Sequence[str] = ("better", "no worse", "undecided", "worse")
    return " ".join(badge(verdict, verdicts[verdict]) for verdict in order if verdicts.get(verdict))
