"""The index page of all comparisons."""

from dataclasses import replace
from pathlib import Path

import pytest

from mtl.compare.page.index import SUMMARY, Summary, read_summaries, render_index
from mtl.errors import UserError
from tests.compare import chromium
from tests.compare.page_examples import crossed_rows, eight_rows


def tables(folder: Path) -> dict[str, Summary]:
    """Two comparisons in a folder, as their reports leave them."""
    for page in (eight_rows(), replace(crossed_rows(), name="a&b <i>", question="<i>which?</i>")):
        (folder / page.name).mkdir()
        (folder / page.name / SUMMARY).write_text(Summary.of(page).json(), encoding="utf-8")
    return read_summaries(folder)


def test_a_summary_counts_the_verdicts_and_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = tables(tmp_path)
    assert list(found) == ["a%26b%20%3Ci%3E/table.html", "support-mini/table.html"]
    eight = found["support-mini/table.html"]
    assert eight == Summary.of(eight_rows())
    assert eight.verdicts == {"better": 4, "no worse": 1, "undecided": 1, "worse": 1}
    assert (eight.rows, eight.seeds, eight.problems) == (8, 5, 2)
    assert eight.answer == eight_rows().verdict[0]


def test_the_index_escapes_names_and_questions(tmp_path: Path) -> None:
    page = render_index("All", "of a folder", tables(tmp_path))
    assert "<i>" not in page and "&lt;i&gt;which?&lt;/i&gt;" in page
    assert 'href="a%26b%20%3Ci%3E/table.html"' in page


@pytest.mark.parametrize("contents", ["{", "[]", '{"name": "a"}'])
def test_a_summary_that_cannot_be_read_is_named(tmp_path: Path, contents: str) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / SUMMARY).write_text(contents, encoding="utf-8")
    with pytest.raises(UserError, match=r"t/summary.json: not a summary .* delete the file"):
        read_summaries(tmp_path)


@pytest.mark.skipif(not chromium.installed(), reason=chromium.MISSING)
@pytest.mark.parametrize("width", [390, 1280])
def test_the_index_is_sorted_filtered_and_fits_the_screen(tmp_path: Path, width: int) -> None:
    (tmp_path / "tables").mkdir()
    index = tmp_path / "tables" / "index.html"
    index.write_text(render_index("All", "", tables(index.parent)), encoding="utf-8")
    shown = (
        "return [...document.querySelectorAll('#rows tbody tr')].filter(line => !line.hidden)"
        ".map(line => line.cells[2].textContent)"
    )
    with chromium.Chromium(tmp_path / "profile") as browser:
        browser.open(index, width)
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert browser.run(shown) == ["131", "8"]
        browser.run("document.querySelectorAll('#rows thead button')[2].click()")
        browser.run("document.querySelectorAll('#rows thead button')[2].click()")
        assert browser.run(shown) == ["8", "131"]
        typed = "const field = document.getElementById('filter'); field.value = 'ENCODER';"
        browser.run(typed + "field.dispatchEvent(new Event('input'))")
        assert browser.run(shown) == ["8"]
        assert browser.console() == []
