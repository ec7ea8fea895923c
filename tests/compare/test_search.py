"""Hyper-parameter search: equal numbers of trials, seeds of its own, resumed."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtl.compare.definition import Experiment
from mtl.compare.forecast import forecast
from mtl.compare.notes import tuning_note
from mtl.compare.optuna_search import study_name
from mtl.compare.plan import Plan
from mtl.compare.rendering import markdown
from mtl.compare.report import make_report
from mtl.compare.results import Results
from mtl.compare.run_index import RunIndex
from mtl.compare.scheduler import run_graph
from mtl.compare.search import (
    grid_choices,
    planned_trials,
    searched_plan,
    trial_run,
    unused_trials,
)
from mtl.errors import UserError
from tests.compare.helpers import SequentialExecutor


def searched(definition: dict[str, Any], folder: Path, search: dict[str, Any]) -> Plan:
    size = definition["sizes"]["mini"] | {"seeds": [1], "search": search}
    (folder / "table.yaml").write_text(
        yaml.safe_dump(definition | {"sizes": {"mini": size}}, sort_keys=False)
    )
    return Plan(Experiment.read(str(folder / "table.yaml")), "mini")


class Machines:
    """Counts the runs of all executors."""

    def __init__(self) -> None:
        self.made: list[SequentialExecutor] = []

    def __call__(self) -> SequentialExecutor:
        self.made.append(SequentialExecutor())
        return self.made[-1]

    @property
    def done(self) -> int:
        return sum(machine.done for machine in self.made)


def test_every_run_gets_the_same_number_of_trials_and_a_search_resumes(
    table: Path, tmp_path: Path
) -> None:
    definition = yaml.safe_load(table.read_text())
    definition["rows"].pop("both")
    space = {"model.lr": {"low": 1e-5, "high": 1e-2, "log": True}, "data.batch_size": [4, 8]}
    plan = searched(definition, tmp_path, {"trials": 2, "space": space})
    machines = Machines()
    best = searched_plan(plan, tmp_path / "runs", machines)
    # A row with a run per task is tuned for each task separately.
    assert set(best.tuned) == {("alone", "mood"), ("alone", "same"), ("together", None)}
    assert machines.done == 2 * 3
    again = searched_plan(plan, tmp_path / "runs", machines)
    assert again.tuned == best.tuned and machines.done == 2 * 3
    assert searched_plan(plan, tmp_path / "runs", None).tuned == best.tuned
    runs = RunIndex(best, tmp_path / "runs")
    last = SequentialExecutor()
    assert not run_graph(best.all_runs(), best.dependencies, runs.job, last)
    assert last.done == 3  # no trial is a final run: its luck would be part of the result
    results = Results(best, runs.finished_folders(), {}, runs.tuning_folders())
    note = tuning_note(results)
    assert "2 trials per row and run, with seed 0; chosen: alone mood: " in note
    # Two trials of each task and the two final runs; two trials and one run.
    by_row = {"alone": [4, 2], "together": [2, 1]}
    for row, (trials, final) in by_row.items():
        tuning = [record for run, record in results.tuning.items() if run.row == row]
        own = [record for run, record in results.records.items() if run.row == row]
        assert (len(tuning), len(own)) == (trials, final)
        seconds = sum(record["seconds"] for record in tuning + own)
        assert results.cost(row).with_tuning == pytest.approx(seconds)
    # What a plan can tell is computed from the tuned runs.
    more = best.with_seeds(2)
    assert not run_graph(more.all_runs(), more.dependencies, runs.job, SequentialExecutor())
    found = forecast(plan.with_seeds(2), tmp_path / "runs", {"mood": 9, "same": 9}, at_once=1)
    assert found.source == "measured, 1 comparison"
    report = markdown(make_report(results, {}))
    assert "training time with trials: one seed, all trials of the search" in report


def test_a_grid_needs_no_optuna_and_each_row_may_have_its_own_space(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    definition = yaml.safe_load(table.read_text())
    definition["rows"]["alone"]["search"] = {}
    definition["rows"]["both"].pop("grid")
    definition["rows"]["both"]["search"] = {"model.lr": [1e-3, 1e-2]}
    search = {"trials": 2, "space": {"model.lr": [1e-4, 1e-3]}}
    plan = searched(definition, tmp_path, search)
    assert planned_trials(plan) == {"together": 2, "both": 2 * 2}
    assert unused_trials(plan) == []
    (warning,) = unused_trials(searched(definition, tmp_path, search | {"trials": 9}))
    assert warning.startswith("search: trials 9, but the listed values have 2 combinations: rows t")
    machines = Machines()
    best = searched_plan(plan, tmp_path / "runs", machines)
    assert set(best.tuned) == {("together", None), ("both", "mood"), ("both", "same")}
    # `both` starts from the tuned run of `together`, with the search's seed.
    assert machines.done == 2 + 2 * 2
    for (row, task), choice in best.tuned.items():
        scores = {
            candidate: json.loads((folder / "metrics.json").read_text())["validation"]["mean"]
            for candidate in plan.search_space(row)["model.lr"]
            for run in [trial_run(plan, (row, task), (("model.lr", candidate),))]
            for folder in [RunIndex(best, tmp_path / "runs").job(run).out]
        }
        assert dict(choice)["model.lr"] == max(scores, key=scores.__getitem__)
    with pytest.raises(UserError, match="needs optuna"):
        searched_plan(
            searched(definition, tmp_path, search | {"trials": 1}),
            tmp_path / "runs",
            machines,
        )


def test_the_seed_of_the_search_is_not_a_final_seed(table: Path, tmp_path: Path) -> None:
    definition = yaml.safe_load(table.read_text())
    with pytest.raises(UserError, match="search: seed 1 is one of the final seeds"):
        searched(definition, tmp_path, {"space": {"model.lr": [1e-4]}, "seed": 1})


def test_a_search_with_changed_configs_is_another_study(table: Path, tmp_path: Path) -> None:
    definition = yaml.safe_load(table.read_text())
    space = {"model.lr": {"low": 1e-4, "high": 1e-3}}
    definition["sizes"]["mini"] |= {"search": {"trials": 1, "space": space}}
    (tmp_path / "method.yaml").write_text(
        "model: {class_path: MultiHead, init_args: {dropout: 0.1}}\n"
    )
    definition["rows"]["together"]["configs"] = ["sampling/sequential", str(tmp_path / "method")]
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    plan = Plan(Experiment.read(str(tmp_path / "table.yaml")), "mini")
    units: list[tuple[str, str | None]] = [("alone", "mood"), ("together", None)]
    before = {row: study_name(plan, row, task) for row, task in units}
    (tmp_path / "method.yaml").write_text(
        "model: {class_path: MultiHead, init_args: {dropout: 0.2}}\n"
    )
    assert (
        study_name(plan, "together", None) != before["together"]
        and study_name(plan, "alone", "mood") == before["alone"]
    )


def test_values_of_a_space_or_a_grid_may_be_mappings() -> None:
    weights = [
        {"class_path": "Fixed", "init_args": {"weights": {"a": weight}}} for weight in (1, 2)
    ]
    choices = grid_choices({"model.lr": [0.1], "model.balancer": weights})
    texts = [str(value) for choice in choices for name, value in choice if "balancer" in name]
    assert [json.loads(text) for text in texts] == weights
    assert len(set(choices)) == 2  # hashable: scores are kept by choice
