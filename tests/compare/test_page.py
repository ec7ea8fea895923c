"""The page of a comparison without a browser: what is in the file."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.compare.page import PageData, render
from mtl.compare.page.data import CellScore
from mtl.compare.page.markup import number, quantity, signed
from tests.compare.page_examples import eight_rows


class Text(HTMLParser):
    """Collects the elements of a page, the text of its body, and its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        (self.scripts if self._inside == "script" else self.texts).append(data)


def with_text(text: str) -> PageData:
    """A page with a text in every place that a user or a run fills."""
    page = eight_rows(seeds=2)
    row = replace(page.rows[1], name=text, about=text)
    page = replace(page, question=text, verdict=[text], warnings=[text], notes=[text])
    problem = replace(page.problems[0], run=text, message=text, log=text)
    file = replace(page.downloads[0], name=text, about=text)
    return replace(
        page,
        rows=[page.rows[0], row],
        pairs=[],
        curves=[],
        problems=[problem],
        downloads=[file],
        command=text,
    )


PLAIN_TAGS = Text(render(with_text("plain"))).tags


@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)
    | st.sampled_from(
        ["</script><b>", "<!--<script>", "]]>", '"onload="x', "'><img src=x>", "&lt;", "a\u2028b"]
    )
)
def test_no_text_adds_an_element_and_every_text_is_in_the_data_unchanged(text: str) -> None:
    parsed = Text(render(with_text(text)))
    assert parsed.tags == PLAIN_TAGS
    assert json.loads(parsed.scripts[0])["rows"][1]["name"] == text
    assert text in "".join(parsed.texts).replace("\N{MINUS SIGN}", "-") or "\N{MINUS SIGN}" in text


def test_the_page_needs_no_other_file_and_no_network() -> None:
    page = render(eight_rows())
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert "@import" not in page and "url(" not in page and "fetch(" not in page
    assert "default-src 'none'" in page


def test_verdict_table_and_problems_are_readable_without_scripts() -> None:
    data = eight_rows()
    text = " ".join("".join(Text(render(data)).texts).split())
    for row in data.rows:
        assert row.name in text
        assert number(row.scores["mean"].mean or 0.0) in text
    assert data.problems[0].message in text and "not run" in text
    assert "at a sixth of the parameters" in text and data.command in text


def test_sections_without_data_are_hidden_and_not_linked() -> None:
    rows = [replace(row, costs=dict.fromkeys(row.costs)) for row in eight_rows().rows]
    page = render(replace(eight_rows(), rows=rows, pairs=[], curves=[], problems=[], notes=[]))
    for name in ("cost", "pairs", "curves"):
        assert f'<section id="{name}" class="needs-js" hidden' in page
        assert f'<section id="{name}" class="needs-js" aria' in render(eight_rows())
    links = re.findall(r'<a href="#(\w+)">', page)
    assert links == ["table", "differences", "files"]


def test_a_row_without_a_score_says_why_and_shows_the_published_figure() -> None:
    data = eight_rows()
    missing = dict.fromkeys(data.rows[2].scores, CellScore(missing="failed", published="88.1"))
    rows = [replace(data.rows[2], scores=missing, decision=None, tasks={}), data.rows[0]]
    page = render(replace(data, rows=rows, pairs=[], curves=[]))
    assert '<td class="missing" data-sort="">failed<small>published 88.1</small></td>' in page
    assert 'data-verdict="no verdict"' in page


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.04, "0.0"), (-0.04, "0.0"), (0.06, "+0.1"), (-1.25, "\N{MINUS SIGN}1.2"), (12, "+12.0")],
)
def test_differences_have_a_sign_unless_they_round_to_zero(value: float, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (1.23, "time (s)", "1.2 s"),
        (89, "time (s)", "89 s"),
        (540, "time (s)", "9 min"),
        (7200, "time (s)", "2 h"),
        (360000, "time (s)", "100 h"),
        (22_713_216, "parameters", "22.7 M"),
        (6, "passes", "6"),
    ],
)
def test_costs_have_the_unit_that_fits(value: float, name: str, text: str) -> None:
    assert quantity(value, name) == text
