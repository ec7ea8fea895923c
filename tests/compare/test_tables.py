"""From a definition to the table: runs, their folders, what is shown."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from experiments import snapshots
from mtl.compare.definition import MEAN, Experiment
from mtl.compare.engine import write_report
from mtl.compare.notes import provenance
from mtl.compare.pictures import draw_crossed_map
from mtl.compare.plan import Plan, RunSpec
from mtl.compare.rendering import Cell, Grid, latex, markdown
from mtl.compare.report import grids
from mtl.compare.results import Results
from mtl.compare.run_index import RunIndex
from mtl.compare.scheduler import run_graph
from mtl.system.package_data import CONFIGS
from tests.compare.helpers import SequentialExecutor, done


def test_nothing_runs_twice_and_another_seed_runs_alone(table: Path, finished: Results) -> None:
    folders = {str(folder) for folder in finished.folders.values()}
    assert len(folders) == 2 * (2 + 1 + 2)  # of the grid the better one
    again = SequentialExecutor()
    done(table, again)
    assert again.done == 0
    more = SequentialExecutor()
    done(table, more, (1, 2, 3))
    assert more.done == 2 + 1 + 2 * 2
    one = next(folder for run, folder in finished.folders.items() if run.row == "alone")
    (one / "metrics.json").unlink()  # as after an interruption
    repaired = SequentialExecutor()
    done(table, repaired)
    assert repaired.done == 1


def test_scores_are_those_of_the_runs_metrics_files(finished: Results) -> None:
    for run, folder in finished.folders.items():
        tested = json.loads((folder / "metrics.json").read_text())["test"]["tasks"]
        for column in ("mood", "same.accuracy", "same.f1"):
            task, _, metric = column.partition(".")
            if task in tested:
                value = tested[task]["metrics"][metric or "accuracy"]
                assert finished.score(run.row, run.seed, column) == pytest.approx(100 * value)

    def means(row: str) -> list[list[float]]:
        return [
            [finished.score(row, seed, column) or 0.0 for column in ("mood", "same.accuracy")]
            for seed in (1, 2)
        ]

    alone, together = means("alone"), means("together")
    assert finished.mean("alone", 1) == pytest.approx(sum(alone[0]) / 2)
    differences = [
        sum(ours) / 2 - sum(theirs) / 2 for ours, theirs in zip(together, alone, strict=True)
    ]
    assert finished.comparisons["together", MEAN].seeds.mean == pytest.approx(sum(differences) / 2)
    rows = finished.comparisons["together", "mood"].examples  # from the saved predictions
    assert rows is not None and rows.mean == pytest.approx(
        finished.comparisons["together", "mood"].seeds.mean
    )
    rows = finished.comparisons["together", "same.f1"].examples
    assert rows is not None and rows.mean == pytest.approx(
        finished.comparisons["together", "same.f1"].seeds.mean
    )


def test_the_cost_of_a_row_counts_the_runs_that_it_starts_from_once(finished: Results) -> None:
    assert finished.cost("alone").examples == 44 + 44
    assert finished.cost("both").examples == (44 + 44) + 88
    assert finished.cost("both").memory


def test_prototypical_scores_are_computed_first_and_their_time_counts(
    table: Path, tmp_path: Path
) -> None:
    definition = yaml.safe_load(table.read_text()) | {
        "published": None,
        "columns": [],
        "suite": "suite.yaml",
    }
    mood = next(iter(Experiment.read(str(table)).task_files.values()))
    other = yaml.safe_load(mood.read_text()) | {
        "name": "other",
        "source": {"path": str(mood.parent / "mood")},
    }
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({"tasks": [str(mood), "other.yaml"]}))
    alone, size = definition["rows"]["alone"], definition["sizes"]["mini"]
    scores = {
        "command": "score-prototypes",
        "tested": "none",
        "shown": False,
        "seed": 1,
        "options": {"alpha": 1},
    }
    weighted = {
        "configs": ["sampling/sequential", "methods/mft_weights_only"],
        "uses": {"model.scores": "scores"},
    }
    weighted["options"] = {"model.labels": "union", "model.rescale": "minmax"}
    definition["rows"] = {"scores": scores, "alone": alone, "weighted": weighted}
    size["seeds"] = [1]
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    results = done(tmp_path / "table.yaml", SequentialExecutor())
    assert results.complete and not results.failed
    folders = {run.row: folder for run, folder in results.folders.items()}
    made_by = (folders["scores"] / "scores.json", folders["weighted"] / "metrics.json")
    seconds = [json.loads(file.read_text())["seconds"] for file in made_by]
    assert results.cost("weighted").seconds == pytest.approx(sum(seconds)) and min(seconds) > 0
    assert not [note for note in provenance(results) if "MIXED" in note]


def test_the_best_run_of_a_grid_by_validation_score_is_used(finished: Results) -> None:
    runs = RunIndex(finished.plan, next(iter(finished.folders.values())).parent)
    for seed, task in ((1, "mood"), (2, "same")):
        grid = [run for run in finished.plan.runs("both") if (run.seed, run.task) == (seed, task)]
        scores = {
            run: json.loads((runs.job(run).out / "metrics.json").read_text())["validation"]["mean"]
            for run in grid
        }
        assert len(scores) == 2
        assert [run for run in grid if run in finished.folders] == [
            max(scores, key=scores.__getitem__)
        ]


def test_a_failed_run_is_reported_and_stops_only_its_dependents(
    table: Path, tmp_path: Path
) -> None:
    plan = Plan(Experiment.read(str(table)), "mini", (1,))
    runs, machine = (
        RunIndex(plan, tmp_path),
        SequentialExecutor(failing=str(CONFIGS / "sampling/sequential.yaml")),
    )
    failed = run_graph(plan.all_runs(), plan.dependencies, runs.job, machine)
    assert machine.done == 2  # those alone
    text = markdown(grids(Results(plan, runs.finished_folders(), failed), {}))
    assert "| together | failed | failed | failed | failed |" in text
    assert f"FAILED: together, seed 1: {tmp_path}/MultiHead-Sequential-" in text
    assert "FAILED: both, seed 1, mood, model.lr 0.0001: needs another run that failed" in text


def test_the_report_is_written_in_all_formats(table: Path, finished: Results) -> None:
    out = table.parent / "runs" / "tables" / "t"
    parts = write_report(finished, out)
    text = (out / "table.md").read_text()
    assert "published (unverified) | 99.9 |" in text
    assert "published: Doe 2020, not verified" in text
    assert (
        "trainer.max_epochs 1" in text
    )  # the size's value stands where the definition has a name in braces
    assert "](runs/together)" in text and "](runs/both/mood)" in text  # a cell leads to its runs
    assert (out / "runs/both/mood/seed-2/metrics.json").samefile(
        finished.folders[the_run(finished, "both", 2, "mood")] / "metrics.json"
    )
    lines = (out / "scores.csv").read_text().splitlines()
    assert lines[0] == "row,seed,task,score,folder" and len(lines) == 1 + 3 * 2 * 4
    assert (
        latex(parts[0]).startswith("% Is it better?")
        and r"\bottomrule" in latex(parts[0])
        and r"$\pm$" in latex(parts[0])
    )
    whole = (out / "table.html").read_text()
    assert "<script" not in whole and "http" not in whole  # it needs nothing else
    files = {
        "table.md",
        "table.csv",
        "scores.csv",
        "table.tex",
        "table.html",
        "changes.png",
        "curves.png",
        "runs",
    }
    assert {file.name for file in out.iterdir()} == files
    with (out / "table.csv").open() as file:
        cells = {(line["row"], line["column"]): line for line in csv.DictReader(file)}
    known = finished.comparisons["both", "mood"]
    assert float(cells["both", "mood"]["mean"]) == pytest.approx(
        sum(finished.scores("both", "mood")) / 2
    )
    assert cells["both", "mood"]["n"] == "2" and cells["both", "mood"]["test_examples"] == "15"
    assert float(cells["both", "mood"]["examples_low"]) == pytest.approx(
        known.examples.low if known.examples else None
    )
    assert cells["alone", "mood"]["seeds_p"] == ""


def the_run(results: Results, row: str, seed: int, task: str | None) -> RunSpec:
    return next(run for run in results.folders if run[:3] == (row, seed, task))


def test_the_bootstrap_of_the_mean_resamples_each_task_separately(finished: Results) -> None:
    mean = finished.comparisons["together", MEAN].examples
    parts = [finished.comparisons["together", column].examples for column in finished.main_columns]
    assert mean is not None and all(parts)
    assert mean.mean == pytest.approx(sum(part.mean for part in parts if part) / len(parts))
    assert mean.high - mean.low < max(
        part.high - part.low for part in parts if part
    )  # chances of tasks cancel


def test_snapshots_become_the_readme_section(
    finished: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "SNAPSHOTS", tmp_path)
    path = snapshots.save_snapshot(finished, grids(finished, {}), "t-mini", "make table-t")
    found = snapshots.read_snapshots(tmp_path)
    line = snapshots.readme_section(found).splitlines()[2]
    assert line.startswith("| [Is it better?](experiments/results/README.md#t-mini) | alone ")
    means = {row: sum(finished.scores(row, MEAN)) / 2 for row in ("together", "both")}
    assert all(f"{row} {mean:.1f}" in line for row, mean in means.items())
    cells = {cell["row"]: cell for cell in found["t-mini"]["cells"] if cell["column"] == MEAN}
    cells["together"] |= {"seeds_p": 0.02, "seeds_mean": 3.0}
    cells["both"] |= {"seeds_p": 0.04, "seeds_mean": 2.0}
    assert (
        snapshots.readme_section(found).splitlines()[2].endswith("| together; both | 2 |")
    )  # 0.04 and 0.04
    cells["both"]["seeds_p"] = 0.2
    cells["together"]["seeds_p"] = 0.03
    assert snapshots.readme_section(found).splitlines()[2].endswith("| none | 2 |")  # 0.06
    assert "    make table-t\n" in snapshots.full_report(
        found
    ) and "| together |" in snapshots.full_report(found)
    assert str(tmp_path.parent) not in path.read_text()  # nothing of this machine


def test_the_readme_agrees_with_the_snapshots() -> None:
    readme, found = snapshots.README.read_text(), snapshots.read_snapshots()
    assert snapshots.replace_section(readme, snapshots.readme_section(found)) == readme
    assert (snapshots.SNAPSHOTS / "README.md").read_text() == snapshots.full_report(found)


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


def test_a_row_with_invalid_options_fails_alone(
    table: Path, finished: Results, tmp_path: Path
) -> None:
    definition = yaml.safe_load(table.read_text())
    definition["rows"]["together"]["options"] = {"model.lrr": 1}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    plan = Plan(Experiment.read(str(tmp_path / "table.yaml")), "mini")
    runs = RunIndex(plan, table.parent / "runs")
    failed = run_graph(plan.all_runs(), plan.dependencies, runs.job, SequentialExecutor())
    assert {run.row for run in failed} == {"together", "both"}
    assert "option 'lrr'. Did you mean 'lr'?" in failed[next(iter(failed))]
    assert len(Results(plan, runs.finished_folders(), failed).scores("alone", "mood")) == 2


def test_testing_another_checkpoint_of_the_same_training_is_another_run(
    table: Path, tmp_path: Path
) -> None:
    definition = yaml.safe_load(table.read_text())
    definition["rows"]["last"] = definition["rows"]["together"] | {"tested": "last"}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    plan = Plan(Experiment.read(str(tmp_path / "table.yaml")), "mini", (1,))
    runs = RunIndex(plan, tmp_path)
    folders = {row: runs.job(next(plan.runs(row))).out for row in ("together", "last")}
    assert folders["last"] != folders["together"]


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
    parts = grids(results, {})
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
    assert "| x\\|y^z~ | 1 % |" in markdown([grid])
    assert r"x\textbar{}y\textasciicircum{}z\textasciitilde{} & 1 \%" in latex(grid)


def lacking(finished: Results, *gone: RunSpec) -> Results:
    """The same results without some runs, which failed."""
    folders = {run: folder for run, folder in finished.folders.items() if run not in gone}
    return Results(finished.plan, folders, dict.fromkeys(gone, "log"))


def test_only_common_seeds_are_compared(finished: Results) -> None:
    results = lacking(finished, the_run(finished, "alone", 2, "mood"))
    ours, theirs = (finished.score(row, 1, "mood") or 0.0 for row in ("together", "alone"))
    same = [
        [score or 0.0 for seed in (1, 2) if (score := finished.score(row, seed, "same.accuracy"))]
        for row in ("together", "alone")
    ]
    changes = [(ours - theirs) / theirs, (sum(same[0]) - sum(same[1])) / sum(same[1])]
    assert results.mean_change("together") == pytest.approx(100 * sum(changes) / 2)
    rows = results.comparisons["together", "mood"].examples
    assert rows is not None and rows.mean == pytest.approx(ours - theirs)
    assert results.cost("alone").examples == 44 + 44  # a seed that lacks a run tells no cost


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


def test_results_are_complete_if_no_run_is_missing(finished: Results) -> None:
    assert finished.complete
    assert not lacking(finished, the_run(finished, "alone", 2, "mood")).complete


def test_a_row_shows_its_name_even_if_its_first_task_failed(finished: Results) -> None:
    results = lacking(finished, *(the_run(finished, "both", seed, "mood") for seed in (1, 2)))
    lines = [[cell.text for cell in line] for line in grids(results, {})[1].lines]
    assert next(line for line in lines if line[0].startswith("both - alone"))[1] == "same.accuracy"


def test_two_rows_of_one_seed_each_are_one_pair(
    table: Path, finished: Results, tmp_path: Path
) -> None:
    definition = yaml.safe_load(table.read_text())
    definition["rows"]["fixed"] = definition["rows"]["together"] | {"seed": 2}
    definition["rows"]["other"] = definition["rows"]["together"] | {"seed": 1, "against": "fixed"}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    plan = Plan(Experiment.read(str(tmp_path / "table.yaml")), "mini")
    results = Results(
        plan, RunIndex(plan, next(iter(finished.folders.values())).parent).finished_folders(), {}
    )
    assert results.comparisons["other", "mood"].permutation == 1
    one, two = (finished.score("together", seed, "mood") or 0.0 for seed in (1, 2))
    assert results.comparisons["other", "mood"].seeds.mean == pytest.approx(one - two)


def test_nothing_is_bold_without_predictions(
    finished: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = lacking(finished)
    monkeypatch.setattr(results, "scores", lambda row, column: [90.0 if row == "both" else 10.0])
    found = {
        key: known._replace(examples=None, seeds=known.seeds._replace(mean=1.0, p=0.001))
        for key, known in finished.comparisons.items()
    }
    results.__dict__["comparisons"] = found
    assert not any(cell.bold for line in grids(results, {})[0].lines for cell in line)
    interval = next(iter(finished.comparisons.values())).seeds._replace(mean=1.0, low=0.5, p=0.001)
    results.__dict__["comparisons"] = {
        key: known._replace(examples=interval) for key, known in found.items()
    }
    assert any(cell.bold for line in grids(results, {})[0].lines for cell in line)
