"""Scores, decisions and costs, computed from the run folders."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from mtl.compare.decision import Verdict
from mtl.compare.definition import MEAN, Experiment
from mtl.compare.plan import Plan
from mtl.compare.results import Results
from mtl.compare.row_comparison import RowComparer
from mtl.compare.run_index import RunIndex
from mtl.predictions import read_predictions
from tests.compare.helpers import lacking, the_run


def test_scores_are_those_of_the_runs_metrics_files(finished: Results) -> None:
    for run, folder in finished.folders.items():
        tested = json.loads((folder / "metrics.json").read_text())["test"]["tasks"]
        for column in ("mood", "same.accuracy", "same.f1"):
            task, _, metric = column.partition(".")
            if task in tested:
                value = tested[task]["metrics"][metric or "accuracy"]
                assert finished.score(run.row, run.seed, column) == pytest.approx(100 * value)
    mean = [finished.score("alone", 1, column) or 0.0 for column in ("mood", "same.accuracy")]
    assert finished.mean("alone", 1) == pytest.approx(sum(mean) / 2)


def rows_of(finished: Results, row: str) -> tuple[np.ndarray, float]:
    """A row's scores over seeds, and the variance of its test set, by the formula of accuracy."""
    scores = np.array(finished.scores(row, MEAN))
    variance = 0.0
    for column in finished.main_columns:
        task = finished.plan.experiment.shown_columns[column].task
        correct = []
        for seed in (1, 2):
            run = finished.run(row, seed, column)
            assert run
            file = finished.folders[run] / "predictions" / "test" / f"{task}.jsonl"
            read = read_predictions(file, finished.tasks[task])
            correct.append((read.outputs.argmax(1) == read.labels).double().numpy())
        variance += 100**2 * np.mean(correct, 0).var() / len(correct[0]) / 4
    return scores, variance


def test_a_decision_is_computed_from_the_seeds_and_the_saved_predictions(
    finished: Results,
) -> None:
    decision = finished.decisions["together"]
    ours, theirs = (np.array(finished.scores(row, MEAN)) for row in ("together", "alone"))
    assert decision.difference == pytest.approx(ours.mean() - theirs.mean())
    assert (decision.seeds, decision.baseline_seeds) == (2, 2)
    # Two rows are compared with the baseline; the noise of the test examples is added.
    assert decision.level == pytest.approx(0.05 / 2)
    assert decision.standard_error**2 >= ours.var(ddof=1) / 2 + theirs.var(ddof=1) / 2 - 1e-9
    half = stats.t.ppf(1 - 0.025 / 2, decision.df) * decision.standard_error
    assert (decision.low, decision.high) == pytest.approx(
        (decision.difference - half, decision.difference + half)
    )
    assert decision.preliminary
    assert "over seeds only" not in decision.sentence()


def test_the_resamples_of_a_mean_vary_as_much_as_the_examples_of_its_tasks(
    finished: Results,
) -> None:
    comparer = RowComparer(finished)
    for row in ("alone", "together"):
        _, variance = rows_of(finished, row)
        resampled = comparer.sampled(row, MEAN).scores.resampled
        assert resampled is not None
        assert resampled.shape == (2, 2000)
        assert resampled.mean(0).var() == pytest.approx(variance, rel=0.15)
        # The resamples lie around the score of each seed.
        assert resampled.mean(1) == pytest.approx(finished.scores(row, MEAN), abs=1.5)


def test_missing_predictions_leave_the_noise_of_the_test_set_unmeasured(
    finished: Results,
) -> None:
    run = the_run(finished, "together", 2, None)
    file = finished.folders[run] / "predictions" / "test" / "mood.jsonl"
    kept = file.read_text()
    file.unlink()
    try:
        decision = lacking(finished).decisions["together"]
    finally:
        file.write_text(kept)
    assert "over seeds only" in decision.sentence()


def test_predictions_for_other_examples_are_not_compared(finished: Results) -> None:
    run = the_run(finished, "together", 2, None)
    file = finished.folders[run] / "predictions" / "test" / "mood.jsonl"
    kept = file.read_text()
    file.write_text("\n".join(kept.splitlines()[:-1]) + "\n")
    try:
        decision = lacking(finished).decisions["together"]
    finally:
        file.write_text(kept)
    assert "over seeds only" in decision.sentence()


def test_task_differences_have_one_column_per_task(finished: Results) -> None:
    rows = ("together", "both")
    expected = {(row, column) for row in rows for column in ("mood", "same.accuracy")}
    assert set(finished.task_decisions) == expected
    for (row, column), found in finished.task_decisions.items():
        ours, theirs = (np.mean(finished.scores(each, column)) for each in (row, "alone"))
        assert found.difference == pytest.approx(ours - theirs)
        assert found.low <= found.difference <= found.high


def test_all_pairs_of_rows_are_compared_at_one_level(finished: Results) -> None:
    pairs = finished.pairwise()
    assert set(pairs) == {("together", "alone"), ("both", "alone"), ("both", "together")}
    assert {decision.level for decision in pairs.values()} == {0.05 / 3}
    wider, narrower = pairs["both", "alone"], finished.decisions["both"]
    assert wider.difference == pytest.approx(narrower.difference)
    assert wider.high - wider.low > narrower.high - narrower.low


def test_the_cost_of_a_row_counts_the_runs_that_it_starts_from_once(finished: Results) -> None:
    assert finished.cost("alone").examples == 44 + 44
    assert finished.cost("both").examples == (44 + 44) + 88
    assert finished.cost("both").memory
    # One model per task needs a pass per task; one encoder for both needs one.
    assert (finished.cost("alone").passes, finished.cost("together").passes) == (2, 1)


def changed(table: Path, finished: Results, folder: Path, **fields: object) -> Results:
    """The finished runs, reported by a table with other fields or rows."""
    definition = yaml.safe_load(table.read_text())
    rows = fields.pop("rows", {})
    assert isinstance(rows, dict)
    definition["rows"] |= {
        name: definition["rows"]["together"] | options for name, options in rows.items()
    }
    (folder / "table.yaml").write_text(yaml.safe_dump(definition | fields, sort_keys=False))
    plan = Plan(Experiment.read(str(folder / "table.yaml")), "mini")
    root = next(iter(finished.folders.values())).parent
    return Results(plan, RunIndex(plan, root).finished_folders(), {})


def test_rows_with_one_seed_get_no_verdict(table: Path, finished: Results, tmp_path: Path) -> None:
    rows = {"fixed": {"seed": 2}, "other": {"seed": 1, "against": "fixed"}}
    results = changed(table, finished, tmp_path, rows=rows)
    assert results.decisions["fixed"].sentence() == "no verdict: fixed has one seed"
    assert results.decisions["other"].verdict is None
    one, two = (finished.score("together", seed, MEAN) or 0.0 for seed in (1, 2))
    assert results.decisions["other"].difference == pytest.approx(one - two)
    # `other` is the only row that is compared with `fixed`.
    assert results.decisions["other"].level == 0.05


def test_a_shared_first_stage_is_part_of_the_verdict(
    table: Path, finished: Results, tmp_path: Path
) -> None:
    definition = yaml.safe_load(table.read_text())
    definition["rows"]["together"]["seed"] = 1
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    plan = Plan(Experiment.read(str(tmp_path / "first.yaml")), "mini")
    comparer = RowComparer(Results(plan, finished.folders, {}))
    assert comparer.sampled("both", MEAN).scores.first_stage
    assert not RowComparer(finished).sampled("both", MEAN).scores.first_stage


def test_paired_rows_are_compared_by_their_common_seeds(
    table: Path, finished: Results, tmp_path: Path
) -> None:
    results = changed(table, finished, tmp_path, paired=True)
    found = results.decisions["both"]
    differences = np.subtract(finished.scores("both", MEAN), finished.scores("alone", MEAN))
    assert found.difference == pytest.approx(differences.mean())
    assert found.standard_error**2 >= differences.var(ddof=1) / 2 - 1e-9
    gone = the_run(results, "alone", 2, "mood")
    assert lacking(results, gone).decisions["both"].verdict is None


def test_looks_decide_with_the_seeds_of_the_look(
    table: Path, finished: Results, tmp_path: Path
) -> None:
    waiting = changed(table, finished, tmp_path, looks=[5, 10]).decisions["together"]
    assert waiting.sentence() == "no verdict: the first look is at 5 seeds"
    first = changed(table, finished, tmp_path, looks=[2, 4]).decisions["together"]
    assert first.level == pytest.approx(0.05 / 2 / 4)
    assert first.verdict in (Verdict.UNDECIDED, Verdict.BETTER, Verdict.WORSE)


def test_a_suites_own_score_decides(table: Path, finished: Results, tmp_path: Path) -> None:
    tasks = yaml.safe_load((table.parent / "suite.yaml").read_text())["tasks"]
    score = "(3 * mood.accuracy + same.f1) / 4"
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({"tasks": tasks, "score": score}))
    definition = yaml.safe_load(table.read_text()) | {"suite": str(tmp_path / "suite.yaml")}
    (tmp_path / "scored.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    plan = Plan(Experiment.read(str(tmp_path / "scored.yaml")), "mini")
    comparer = RowComparer(Results(plan, finished.folders, {}))
    scores = comparer.sampled("together", MEAN).scores
    parts = [RowComparer(finished).sampled("together", name).scores for name in ("mood", "same.f1")]
    assert scores.scores == pytest.approx((3 * parts[0].scores + parts[1].scores) / 4)
    assert scores.resampled is not None and parts[0].resampled is not None
    assert parts[1].resampled is not None
    expected = (3 * parts[0].resampled + parts[1].resampled) / 4
    assert np.abs(scores.resampled - expected).max() < 1e-9


def test_results_are_complete_if_no_run_is_missing(finished: Results) -> None:
    assert finished.complete
    assert not lacking(finished, the_run(finished, "alone", 2, "mood")).complete


def test_a_failed_run_reports_its_error(finished: Results, tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text(
        "Seed set to 1\nmtl: error: label 'maybe' is not one of the classes\n"
    )
    run = the_run(finished, "both", 2, "mood")
    results = Results(finished.plan, finished.folders, {run: str(tmp_path / "run.log")})
    [line] = results.failures()
    assert line.startswith(
        f"FAILED: both, seed 2, mood, model.lr {run.choice[0][1]}: {tmp_path}/run.log: "
        "label 'maybe' is not one"
    )
