"""Pages of the stored results."""

import json
from pathlib import Path

import pytest

from experiments.snapshot_pages import snapshot_page, write_pages
from experiments.snapshots import read_snapshots
from mtl.compare.definition import MEAN
from mtl.compare.page.chart_json import chart_json

SNAPSHOTS = read_snapshots()


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_the_page_of_a_stored_table_shows_its_numbers(name: str) -> None:
    snapshot = SNAPSHOTS[name]
    page = snapshot_page(name, snapshot)
    assert page.verdict == snapshot["verdict"] and page.command == snapshot["command"]
    cells = {(cell["row"], cell["column"]): cell for cell in snapshot["cells"]}
    assert {(row.name, column) for row in page.rows for column in row.scores} == set(cells)
    for row in page.rows:
        for column, score in row.scores.items():
            assert (score.mean, score.count) == (
                cells[row.name, column]["mean"],
                cells[row.name, column]["n"],
            )
        decided = cells[row.name, MEAN]
        assert (row.decision.verdict if row.decision else "") == (decided["verdict"] or "")
        assert (row.decision is None) == (decided["difference"] is None)
    assert any(row.costs["seconds"] for row in page.rows)
    assert len(json.loads(chart_json(page))["rows"]) == len(page.rows)


def test_the_map_of_crossed_rows_leads_to_each_row_once() -> None:
    page = snapshot_page("crossed", SNAPSHOTS["methods_x_schemes-mini"])
    assert page.crossed is not None
    indices = [index for line in page.crossed.rows for index in line if index is not None]
    assert len(indices) == len(set(indices)) == len(page.rows) - 1  # all but the baseline


def test_the_index_links_to_the_page_of_every_table(tmp_path: Path) -> None:
    write_pages(SNAPSHOTS, tmp_path / "html")
    index = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    files = {file.name for file in (tmp_path / "html").iterdir()}
    assert files == {"index.html", *(f"{name}.html" for name in SNAPSHOTS)}
    assert all(f'href="{name}.html"' in index for name in SNAPSHOTS)
