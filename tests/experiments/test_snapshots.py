"""Stored results, and the Markdown generated from them."""

from pathlib import Path

import pytest

from experiments import snapshots
from mtl.compare.definition import MEAN
from mtl.compare.report import make_report
from mtl.compare.results import Results


def test_snapshots_become_the_readme_section(
    finished: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "SNAPSHOTS", tmp_path)
    report = make_report(finished, {})
    path = snapshots.save_snapshot(finished, report, "t-mini", "make table-t")
    found = snapshots.read_snapshots(tmp_path)
    line = snapshots.readme_section(found).splitlines()[2]
    assert line.startswith("| [Is it better?](experiments/results/README.md#t-mini) | alone ")
    assert line.endswith("| 2 (preliminary) |")
    for row, decision in finished.decisions.items():
        verdicts = snapshots.readme_section(found).splitlines()[0].split(" | ")
        if decision.verdict:
            assert row in line.split(" | ")[verdicts.index(decision.verdict)]
    cells = {cell["row"]: cell for cell in found["t-mini"]["cells"] if cell["column"] == MEAN}
    cells["together"] |= {"verdict": "better", "difference": 3.0, "low": 1.0, "high": 5.0}
    cells["both"] |= {"verdict": "worse", "difference": -3.0, "low": -5.0, "high": -1.0}
    assert (
        snapshots.readme_section(found)
        .splitlines()[2]
        .endswith("| together +3.0 [+1.0, +5.0] |  | both -3.0 [-5.0, -1.0] |  | 2 (preliminary) |")
    )
    text = snapshots.full_report(found)
    assert "    make table-t\n" in text and "| together |" in text
    assert all(f"* {sentence}" in text for sentence in report.verdict)
    assert str(tmp_path.parent) not in path.read_text()  # nothing of this machine


def test_the_pages_agree_with_the_snapshots() -> None:
    found = snapshots.read_snapshots()
    for page, linked in ((snapshots.README, True), (snapshots.GUIDE, False)):
        text, section = page.read_text(), snapshots.readme_section(found, linked)
        assert snapshots.replace_section(text, section) == text
    assert (snapshots.SNAPSHOTS / "README.md").read_text() == snapshots.full_report(found)
