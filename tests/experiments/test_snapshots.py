"""Stored results, and the files generated from them."""

import csv
from pathlib import Path

import pytest
from scipy import stats

from experiments import snapshots
from experiments.results_page import overview, results_page, verdict_counts
from experiments.snapshot_facts import VERDICTS, Snapshot, findings
from mtl.compare.definition import MEAN
from mtl.compare.report import make_report
from mtl.compare.results import Results
from mtl.compare.row_comparison import RowComparer
from tests.compare.helpers import lacking

STORED = snapshots.read_snapshots()


@pytest.fixture
def kept(finished: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the stored results of a small comparison."""
    monkeypatch.setattr(snapshots, "SNAPSHOTS", tmp_path)
    snapshots.save_snapshot(finished, make_report(finished, {}), "t-mini", "make table-t")
    return tmp_path


def test_a_stored_table_becomes_a_line_and_a_table_of_the_results_page(
    finished: Results, kept: Path
) -> None:
    found = snapshots.read_snapshots(kept)
    line = overview(found).splitlines()[2]
    assert line.startswith("| [Is it better?](#t-mini) | alone ")
    assert line.endswith("| 2 (preliminary) |")
    for row, decision in finished.decisions.items():
        verdicts = overview(found).splitlines()[0].split(" | ")
        if decision.verdict:
            assert row in line.split(" | ")[verdicts.index(decision.verdict)]
    cells = {cell["row"]: cell for cell in found["t-mini"]["cells"] if cell["column"] == MEAN}
    cells["together"] |= {"verdict": "better", "difference": 3.0, "low": 1.0, "high": 5.0}
    cells["both"] |= {"verdict": "worse", "difference": -3.0, "low": -5.0, "high": -1.0}
    assert (
        overview(found)
        .splitlines()[2]
        .endswith("| together +3.0 [+1.0, +5.0] |  | both -3.0 [-5.0, -1.0] |  | 2 (preliminary) |")
    )
    assert "| fewer (preliminary) | 1 | 2 | 1 | 0 | 1 | 0 |" in verdict_counts(found)
    text = results_page(found)
    assert "    make table-t\n" in text and "| together |" in text
    assert all(f"* {sentence}" in text for sentence in found["t-mini"]["verdict"])
    assert str(kept.parent) not in (kept / "t-mini.json").read_text()  # nothing of this machine


def test_the_csv_file_has_every_score_of_every_run(finished: Results, kept: Path) -> None:
    lines = {
        tuple(line[key] for key in ("row", "seed", "task", "metric", "split")): line
        for line in csv_lines(kept / "t-mini.csv")
    }
    for run, record in finished.records.items():
        for split in ("validation", "test"):
            for task, scores in record[split]["tasks"].items():
                for metric, value in scores["metrics"].items():
                    line = lines.pop((run.row, str(run.seed), task, metric, split))
                    assert float(line["score"]) == pytest.approx(100 * value, abs=1e-5)
                    assert int(line["examples"]) == scores["examples"]
                    assert float(line["seconds"]) == record["seconds"]
                    assert line["code"] == record["code"]
                    assert f"torch {record['versions']['torch']}" in line["versions"]
                    assert ("model.lr" in line["options"]) == (run.row == "both")
                line = lines.pop((run.row, str(run.seed), task, "score", split))
                assert float(line["score"]) == pytest.approx(100 * scores["score"], abs=1e-5)
    assert {key[0] for key in lines} == set(finished.rows)
    for (row, seed, *_), line in lines.items():  # what is left are the means
        mean = finished.score(row, int(seed), MEAN)
        assert (line["task"], line["table"], line["size"]) == (MEAN, "t", "mini")
        assert float(line["score"]) == pytest.approx(mean, abs=1e-5)


def csv_lines(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def seed_scores(lines: list[dict[str, str]], row: str) -> list[float]:
    """The means over tasks of a row, one per seed."""
    return [float(line["score"]) for line in lines if (line["row"], line["task"]) == (row, MEAN)]


def test_without_the_noise_of_test_examples_the_interval_is_that_of_welch_on_the_csv_file(
    finished: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RowComparer, "_resampled", lambda *_: None)
    monkeypatch.setattr(snapshots, "SNAPSHOTS", tmp_path)
    results = lacking(finished)
    snapshots.save_snapshot(results, make_report(results, {}), "t-mini", "make table-t")
    lines = csv_lines(tmp_path / "t-mini.csv")
    found = findings("t-mini", snapshots.read_snapshots(tmp_path)["t-mini"])
    assert any(one.verdict for one in found)
    for one in found:
        if one.verdict:
            row, baseline = seed_scores(lines, one.row), seed_scores(lines, one.against)
            welch = stats.ttest_ind(row, baseline, equal_var=False)
            low, high = welch.confidence_interval(1 - 0.05 / len(found))
            assert (one.low, one.high) == pytest.approx((low, high), abs=1e-3)


def test_the_interval_of_a_stored_table_follows_from_its_csv_file() -> None:
    """The CSV gives the seeds' part by scipy; the rest of the squared standard error is W."""
    name = "quickstart-mini"
    lines = csv_lines(snapshots.SNAPSHOTS / f"{name}.csv")
    (cell,) = [each for each in STORED[name]["cells"] if each["standard_error"]]
    row, baseline = seed_scores(lines, cell["row"]), seed_scores(lines, cell["against"])
    assert len(row) == len(baseline) == 5
    welch = stats.ttest_ind(row, baseline, equal_var=False)
    difference = sum(row) / 5 - sum(baseline) / 5
    seeds = (difference / welch.statistic) ** 2
    test_examples = cell["standard_error"] ** 2 - seeds  # W
    assert 0 < test_examples < 2
    examples = min(int(line["examples"]) for line in lines if line["examples"])
    terms = seeds**2 / welch.df + test_examples**2 / (examples - 1)
    df = (seeds + test_examples) ** 2 / terms
    half = stats.t.ppf(0.975, df) * (seeds + test_examples) ** 0.5
    assert cell["df"] == pytest.approx(df, rel=1e-4)
    assert (cell["low"], cell["high"]) == pytest.approx(
        (difference - half, difference + half), abs=1e-4
    )


def test_every_comparison_is_counted_once() -> None:
    lines = [line.split("|") for line in verdict_counts(STORED).splitlines()[2:]]
    counted = [[int(cell) for cell in line[3:-1]] for line in lines]
    everything = [one for name, each in STORED.items() for one in findings(name, each)]
    assert sum(line[0] for line in counted) == len(everything)
    by_verdict = [sum(line[index] for line in counted) for index in range(1, 1 + len(VERDICTS))]
    assert by_verdict == [sum(one.verdict == each for one in everything) for each in VERDICTS]


def test_the_committed_files_are_those_that_make_results_writes() -> None:
    generated = dict(snapshots.generated_files(STORED))
    for path, contents in generated.items():
        assert path.read_text(encoding="utf-8") == contents, f"{path}: run make results"
    assert set(snapshots.SNAPSHOTS.glob("*.csv")) <= set(generated)
    # Of the oldest tables only means were kept.
    assert {"atis-small.csv", "sick-small.csv"} <= {path.name for path in generated}


def test_a_table_whose_data_the_encoder_has_seen_says_so() -> None:
    page = results_page(STORED)

    def section(name: str) -> str:
        return page.split(f"\n## {name}\n")[1].split("\n## ")[0]

    def affected(name: str, snapshot: Snapshot) -> bool:
        tasks = {cell["column"].partition(".")[0] for cell in snapshot["cells"]}
        seen = {"mnli", "qqp", "snli", "qnli", "stsb", "cs224n_quora", "cs224n_sts"}
        seen |= {"sick_entailment", "sick_relatedness"}
        genres = any(task.startswith("mnli_") for task in tasks)
        return "Backbone bundled;" in section(name) and bool(genres or tasks & seen)

    for name, snapshot in STORED.items():
        marked = "* Warning: the bundled encoder, all-MiniLM-L6-v2" in section(name)
        assert marked == affected(name, snapshot)
    assert any(affected(name, each) for name, each in STORED.items())
