"""From a definition to the table: runs, their folders, what is shown."""

import json
from pathlib import Path

import pytest
import yaml

from mtl.compare.definition import Experiment
from mtl.compare.notes import provenance
from mtl.compare.plan import Plan
from mtl.compare.rendering import markdown
from mtl.compare.report import make_report
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


def test_the_other_runs_of_a_grid_are_part_of_the_cost(finished: Results) -> None:
    runs = RunIndex(finished.plan, next(iter(finished.folders.values())).parent)
    results = Results(finished.plan, finished.folders, {}, runs.tuning_folders())
    # For each of two seeds, and each of two tasks, the rate that was not chosen.
    assert len(results.tuning) == 4
    seconds = sum(record["seconds"] for record in results.tuning.values()) / 2
    cost = results.cost("both")
    assert cost.tuning == pytest.approx(seconds) and cost.seconds and cost.with_tuning
    assert cost.with_tuning == pytest.approx(cost.seconds + seconds)
    assert results.cost("alone").tuning == 0 and finished.cost("alone").tuning is None
    head = next(grid for grid in make_report(results, {}).grids if grid.title == "cost").head
    assert "training time with trials (s)" in head
    without = next(grid for grid in make_report(finished, {}).grids if grid.title == "cost").head
    assert head[:1] + [name for name in head[1:] if "trials" not in name] == without


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
    text = markdown(make_report(Results(plan, runs.finished_folders(), failed), {}))
    assert "| together | failed | failed | failed | failed |" in text
    assert f"FAILED: together, seed 1: {tmp_path}/MultiHead-Sequential-" in text
    assert "FAILED: both, seed 1, mood, model.lr 0.0001: needs another run that failed" in text


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
    assert "option --model.lrr. Did you mean --model.lr?" in failed[next(iter(failed))]
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
