"""The page shows the numbers of the results, and what is missing."""

import math
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.compare.definition import MEAN
from mtl.compare.engine import write_report
from mtl.compare.page.collect import page_data
from mtl.compare.page.curves import mean_curve
from mtl.compare.page.data import PageData
from mtl.compare.page.index import Summary, read_summaries
from mtl.compare.report import make_report
from mtl.compare.results import Results
from tests.compare.helpers import lacking, the_run


def page_of(results: Results, out: Path) -> PageData:
    return page_data(results, make_report(results, {}), out, "mtl compare table.yaml")


def test_scores_differences_and_costs_are_those_of_the_results(
    finished: Results, tmp_path: Path
) -> None:
    page = page_of(finished, tmp_path)
    assert [row.name for row in page.rows] == finished.rows
    for row in page.rows:
        for column in (*finished.columns, MEAN):
            expected = {seed: finished.score(row.name, seed, column) or 0.0 for seed in (1, 2)}
            assert row.scores[column].seeds == pytest.approx(expected)
            assert row.scores[column].mean == pytest.approx(statistics.fmean(expected.values()))
        assert row.costs["seconds"] == finished.cost(row.name).seconds
    assert page.rows[0].decision is None and not page.rows[0].tasks
    for row in page.rows[1:]:
        decision = finished.decisions[row.name]
        assert row.decision is not None and row.decision.sentence == decision.sentence()
        assert row.decision.value == decision.difference
        assert set(row.tasks) == set(finished.main_columns)
        for column, found in row.tasks.items():
            known = finished.task_decisions[row.name, column]
            assert (found.value, found.low, found.high) == pytest.approx(known[:3])
            assert (found.verdict in ("better", "worse")) == (known.p < 0.05)
    assert page.rows[1].scores["mood"].published == "99.9"


def test_every_pair_of_rows_is_on_the_page_once(finished: Results, tmp_path: Path) -> None:
    page = page_of(finished, tmp_path)
    pairs = {frozenset((pair.row, pair.other)) for pair in page.pairs}
    assert len(page.pairs) == len(pairs) == 3 and all(len(pair) == 2 for pair in pairs)
    for pair in page.pairs:
        ours, theirs = (page.rows[index].scores[MEAN].mean for index in (pair.row, pair.other))
        assert ours is not None and theirs is not None
        assert pair.value == pytest.approx(ours - theirs)


def test_every_seed_of_every_row_has_a_learning_curve(finished: Results, tmp_path: Path) -> None:
    page = page_of(finished, tmp_path)
    curves = {(curve.row, curve.seed) for curve in page.curves}
    assert curves == {(row, seed) for row in range(3) for seed in (1, 2)}
    assert all(0 <= value <= 100 for curve in page.curves for _, value in curve.points)


def test_failed_and_missing_runs_are_listed_with_their_message(
    finished: Results, tmp_path: Path
) -> None:
    gone = the_run(finished, "together", 2, None)
    log = tmp_path / "run.log"
    log.write_text("step 3\nmtl: error: data/mood.csv, row 4: <b>no label</b>\n")
    failed = Results(finished.plan, lacking(finished, gone).folders, {gone: str(log)})
    (problem,) = page_of(failed, tmp_path).problems
    assert (problem.run, problem.status) == ("together, seed 2", "failed")
    assert problem.message == "data/mood.csv, row 4: <b>no label</b>"
    assert problem.log == str(log)
    task = the_run(finished, "alone", 1, "same")
    folders = {run: folder for run, folder in finished.folders.items() if run != task}
    page = page_of(Results(finished.plan, folders, {}), tmp_path)
    assert [(one.run, one.status, one.message) for one in page.problems] == [
        ("alone", "not run", "seed 1 (same)")
    ]
    assert page.rows[0].scores["same.f1"].seeds.keys() == {2}


def test_the_report_has_the_page_with_its_files_and_the_index_lists_it(
    finished: Results, tmp_path: Path
) -> None:
    out = tmp_path / "tables" / "t-mini"
    report = write_report(finished, out)
    assert report.verdict[0] in (out / "table.html").read_text()
    page = page_of(finished, out)
    names = {file.name for file in page.downloads}
    assert {"scores.csv", "table.csv", "table.tex", "table.md", "comparison.yaml"} <= names
    assert all(file.contents == (out / file.name).read_bytes() for file in page.downloads)
    assert read_summaries(out.parent) == {"t-mini/table.html": Summary.of(page)}


lengths = st.integers(1, 12)


@given(st.lists(st.tuples(lengths, st.floats(0, 1)), min_size=1, max_size=4))
def test_the_mean_of_constant_curves_is_the_mean_of_their_values(
    curves: list[tuple[int, float]],
) -> None:
    points = [[(7 * (k + 1), value) for k in range(length)] for length, value in curves]
    mean = mean_curve(points)
    assert mean[-1][0] == pytest.approx(sum(run[-1][0] for run in points))
    expected = np.mean([value for _, value in curves])
    assert all(math.isclose(value, expected, abs_tol=1e-9) for _, value in mean)


def test_the_curve_of_one_run_is_its_own_and_a_run_without_scores_has_none() -> None:
    assert mean_curve([[(10, 0.5), (25, 0.75)]]) == [(10.0, 0.5), (25.0, 0.75)]
    assert mean_curve([[(10, 0.5)], []]) == []
