"""What the report shows, and in which formats."""

import csv
import json
import math
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from mtl.compare.decision import Decision, Verdict
from mtl.compare.definition import MEAN, Experiment
from mtl.compare.engine import write_report
from mtl.compare.estimate import RowScores
from mtl.compare.notes import provenance
from mtl.compare.pictures import draw_crossed_map, draw_differences
from mtl.compare.plan import Plan
from mtl.compare.rendering import Cell, Grid, Report, latex, markdown
from mtl.compare.report import make_report
from mtl.compare.results import Results
from mtl.compare.row_comparison import RowComparer, Sampled
from mtl.compare.run_index import RunIndex
from mtl.compare.verdict import verdict_lines, warnings
from tests.compare.helpers import SequentialExecutor, done, lacking, the_run


def decision(row: str, verdict: Verdict | None, difference: float = 0.4) -> Decision:
    """A decision against `alone` with an interval of one point to each side."""
    low, high = difference - 1, difference + 1
    reason = "" if verdict else f"{row} has one seed"
    needed = "about 7 more seeds would detect a difference of 2 points"
    return Decision(
        row,
        "alone",
        verdict,
        difference,
        low,
        high,
        0.5,
        8.0,
        seeds=5,
        baseline_seeds=5,
        margin=1.0,
        needed=needed if verdict is Verdict.UNDECIDED else "",
        reason=reason,
    )


def decided(finished: Results, **verdicts: Decision) -> Results:
    """The finished results with other decisions."""
    results = lacking(finished)
    results.__dict__["decisions"] = verdicts
    results.__dict__["possibly_best"] = list(verdicts)
    return results


def test_the_accuracy_of_all_labels_is_a_column(finished: Results) -> None:
    results = lacking(finished)
    (name,) = [name for name in results.rows if name == "together"]
    for seed, share in zip(results.seeds(name), (0.25, 0.75), strict=True):
        run = the_run(results, name, seed, None)
        record = results.records[run]
        test = record["test"] | {"all_correct": {"mood + same": share}}
        results.records[run] = record | {"test": test}
    grid = next(grid for grid in make_report(results, {}).grids if grid.title == "scores")
    column = grid.head.index("all right: mood + same")
    assert all(len(line) == len(grid.head) for line in grid.lines)
    shown = {line[0].text: line[column].text for line in grid.lines}
    assert shown == dict.fromkeys(shown, "") | {name: "50.0 ± 35.4"}


def test_the_report_is_written_in_all_formats(table: Path, finished: Results) -> None:
    out = table.parent / "runs" / "tables" / "t"
    report = write_report(finished, out)
    text = (out / "table.md").read_text()
    assert text.startswith("### Is it better?\n\n* ")  # the verdict comes first
    assert report.verdict[0] in text.split("|")[0]
    assert "published (unverified) | 99.9 |" in text
    assert "published: Doe 2020, not verified" in text
    # The size's value replaces the name in braces of the definition.
    assert "trainer.max_epochs 1" in text
    assert "](runs/together)" in text and "](runs/both/mood)" in text  # a cell leads to its runs
    assert (out / "runs/both/mood/seed-2/metrics.json").samefile(
        finished.folders[the_run(finished, "both", 2, "mood")] / "metrics.json"
    )
    lines = (out / "scores.csv").read_text().splitlines()
    # For each row and seed: accuracy and score of one task, two metrics and score of the other, of
    # the validation and of the test examples; and the mean.
    assert lines[0].startswith("table,size,row,task,metric,split,seed,score,")
    assert len(lines) == 1 + 3 * 2 * (2 * (2 + 3) + 1)
    folder = finished.folders[the_run(finished, "both", 2, "mood")]
    assert any(line.endswith(f",{folder}") for line in lines)
    tex = (out / "table.tex").read_text()
    assert r"\bottomrule" in tex and r"$\pm$" in tex
    names = "table.md table.csv scores.csv table.tex table.html summary.json comparison.yaml "
    names += "changes.png curves.png"
    assert {file.name for file in out.iterdir()} == {*names.split(), "runs"}
    with (out / "table.csv").open() as file:
        cells = {(line["row"], line["column"]): line for line in csv.DictReader(file)}
    known, mean = finished.task_decisions["both", "mood"], cells["both", MEAN]
    assert float(cells["both", "mood"]["mean"]) == pytest.approx(
        sum(finished.scores("both", "mood")) / 2
    )
    assert cells["both", "mood"]["n"] == "2" and cells["both", "mood"]["test_examples"] == "15"
    assert float(cells["both", "mood"]["exploratory_low"]) == pytest.approx(known.low)
    assert cells["both", "mood"]["verdict"] == cells["alone", MEAN]["verdict"] == ""
    assert mean["sentence"] == finished.decisions["both"].sentence()
    assert float(mean["low"]) == pytest.approx(finished.decisions["both"].low)


def test_rows_that_are_better_are_bold_and_rows_that_are_worse_dim(finished: Results) -> None:
    results = decided(
        finished,
        together=decision("together", Verdict.BETTER, 5),
        both=decision("both", Verdict.WORSE, -5),
    )
    report = make_report(results, {})
    lines = {line[0].text: line for line in report.grids[0].lines}
    assert [cell.bold for cell in lines["together"]] == [True, *3 * [False], True, True, True]
    assert all(cell.dim for cell in lines["both"])
    assert not any(cell.bold or cell.dim for cell in lines["alone"])
    assert [cell.text for cell in lines["together"]][-2:] == ["+5.0 [+4.0, +6.0]", "better"]
    undecided = decided(finished, together=decision("together", Verdict.UNDECIDED))
    cells = [cell for line in make_report(undecided, {}).grids[0].lines for cell in line]
    assert not any(cell.bold or cell.dim for cell in cells)


def test_the_verdict_starts_with_the_row_to_use_and_its_cost(finished: Results) -> None:
    results = decided(finished, together=decision("together", Verdict.NO_WORSE))
    first = verdict_lines(results)[0]
    assert first.startswith(
        "Use together: no worse than alone within 1 point: +0.4 [-0.6, 1.4], at half of the "
        "baseline's parameters and inference cost"
    )


def test_the_verdict_says_what_would_decide(finished: Results) -> None:
    results = decided(
        finished,
        together=decision("together", Verdict.UNDECIDED),
        both=decision("both", None),
    )
    lines = verdict_lines(results)
    assert lines[0].startswith("Keep alone for now")
    assert (
        "together: undecided: +0.4 [-0.6, 1.4]; about 7 more seeds would detect a difference of 2 "
        "points." in lines
    )
    assert "both: no verdict: both has one seed." in lines
    assert lines[-1] == "Tuned by a grid on validation data: both. Other rows: not tuned."


def test_warnings_name_what_limits_the_verdict(finished: Results) -> None:
    assert any("2 seeds: every verdict is preliminary" in text for text in warnings(finished))
    results = lacking(finished)
    for run, record in results.records.items():
        if run.row == "alone":
            record["epochs"] = 3
            record["validation"]["step"] = record["last"]["step"]
    found = "\n".join(warnings(results))
    assert "alone is undertrained: the validation score of 4 of its 4 runs still rises" in found
    for record in results.records.values():
        record["validation"] = record["validation"] | {"step": -1}
    assert "undertrained" not in "\n".join(warnings(results))


def test_paired_rows_are_compared_seed_by_seed_for_the_best_row(
    finished: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The subsets differ much more than the rows, so only pairing shows that one is better."""
    subsets = np.linspace(30, 80, 10)
    scores = {"alone": subsets, "together": subsets + 10 + np.tile([0.1, -0.1], 5)}

    def sampled(self: object, row: str, column: str) -> Sampled:
        values = scores.get(row, np.array([]))
        return Sampled(list(range(len(values))), RowScores(row, values))

    monkeypatch.setattr(RowComparer, "sampled", sampled)

    def best(paired: bool) -> list[str]:
        plan = copy(finished.plan)
        plan.experiment = replace(plan.experiment, paired=paired)
        return Results(plan, {}, {}).possibly_best

    assert best(paired=False) == ["alone", "together"]
    assert best(paired=True) == ["together"]


def test_a_tuned_value_at_the_edge_of_what_was_tried_is_a_warning(
    finished: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = {"model.lr": [1e-4, 3e-4, 1e-3]}
    monkeypatch.setattr(type(finished.plan), "search_space", lambda *_: tried)

    def found(alone: float, together: float) -> list[str]:
        tuned = {("alone", "mood"): alone, ("together", None): together}
        choices = {unit: (("model.lr", value),) for unit, value in tuned.items()}
        monkeypatch.setattr(finished.plan, "tuned", choices)
        return [text for text in warnings(finished) if "value tried" in text]

    assert found(3e-4, 3e-4) == []
    assert found(1e-3, 1e-3)[0].startswith(
        "model.lr 0.001 is the largest value tried (alone, mood; together): a value beyond it may"
    )
    assert [text[:38] for text in found(1e-4, 3e-4)] == [
        "model.lr 0.0001 is the smallest value t"[:38]
    ]


def test_a_picture_shows_the_intervals_that_decide(finished: Results, tmp_path: Path) -> None:
    results = decided(finished, together=decision("together", Verdict.BETTER, 5))
    assert draw_differences(results, tmp_path / "changes.png")
    without = decided(finished, together=replace(decision("together", None), low=math.nan))
    assert draw_differences(without, tmp_path / "none.png") is None


def test_crossed_fragments_become_rows_and_a_map(
    table: Path, finished: Results, tmp_path: Path
) -> None:
    definition = yaml.safe_load(table.read_text())
    written = definition["rows"]["together"]
    definition["rows"] = {
        "alone": definition["rows"]["alone"],
        "b, one": written | {"options": {"model.lr": 0.5}},
    }
    definition["published"] = None
    definition["crossed"] = {
        "scheme": {
            "a": {"configs": written["configs"][:1]},
            "b": {"configs": ["sampling/mixed"]},
            "c": {"sizes": ["paper"]},
        },
        "method": {
            "one": {"configs": written["configs"][1:]},
            "two": {"configs": ["methods/separate"], "options": {"model.lr": 0.1}},
            "large": {"configs": ["methods/pals"], "sizes": ["paper"]},
        },
    }
    definition["sizes"]["paper"] = definition["sizes"]["mini"]
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    whole = Experiment.read(str(tmp_path / "table.yaml"))
    names = ["a, one", "a, two", "a, large", "b, two", "b, large", "c, one", "c, two", "c, large"]
    assert list(whole.rows) == ["alone", "b, one", *names]
    assert whole.rows["b, two"].configs == ["sampling/mixed", "methods/separate"]
    assert whole.rows["b, one"].options == {"model.lr": 0.5}  # as written out
    plan = Plan(whole, "mini")
    assert list(plan.experiment.rows) == ["alone", "b, one", "a, one", "a, two", "b, two"]

    runs = RunIndex(plan, next(iter(finished.folders.values())).parent)
    results = Results(plan, runs.finished_folders(), {})
    parts = make_report(results, {}).grids
    assert parts[0].head == ["", "a", "b", "all"] and [line[0].text for line in parts[0].lines] == [
        "one",
        "two",
        "all",
    ]
    shared = finished.scores("together", MEAN)  # the same run by another name
    assert (
        parts[0].lines[0][1].text
        == f"{sum(shared) / 2:.1f} ± {abs(shared[0] - shared[1]) / 2**0.5:.1f}"
    )
    assert [cell.text for cell in parts[0].lines[1][1:]] == ["", "", ""]  # not run
    assert (
        draw_crossed_map(results, tmp_path / "map.png")
        and draw_crossed_map(finished, tmp_path / "none.png") is None
    )


def test_special_characters_of_a_format_are_escaped() -> None:
    grid = Grid("t", ["", "a_b"], [[Cell("x|y^z~"), Cell("1 %")]])
    assert "| x\\|y^z~ | 1 % |" in markdown(Report("q", [], [], [grid]))
    assert r"x\textbar{}y\textasciicircum{}z\textasciitilde{} & 1 \%" in latex(grid)


def test_a_row_shows_its_name_even_if_its_first_task_failed(finished: Results) -> None:
    results = lacking(finished, *(the_run(finished, "both", seed, "mood") for seed in (1, 2)))
    lines = [[cell.text for cell in line] for line in make_report(results, {}).grids[1].lines]
    assert next(line for line in lines if line[0].startswith("both - alone"))[1] == "same.accuracy"


def test_the_notes_warn_of_mixed_code_and_data(table: Path, finished: Results) -> None:
    assert not [note for note in provenance(finished) if note.startswith("MIXED")]
    folder = next(iter(finished.folders.values()))
    before = (folder / "metrics.json").read_text()
    found = json.loads(before)
    found["code"], found["data"]["mood, test"] = "0" * 12, "1" * 12
    (folder / "metrics.json").write_text(json.dumps(found))
    notes = "\n".join(provenance(done(table, SequentialExecutor())))
    (folder / "metrics.json").write_text(before)
    assert "MIXED code: the runs have 2 different values" in notes
    assert "MIXED data: mood, test has different examples in some runs" in notes
