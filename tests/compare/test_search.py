"""Hyper-parameter search: equal numbers of trials, seeds of its own, resumed."""

from pathlib import Path

import yaml

from mtl.compare.definition import Experiment
from mtl.compare.notes import tuning_note
from mtl.compare.plan import Plan
from mtl.compare.results import Results
from mtl.compare.run_index import RunIndex
from mtl.compare.scheduler import run_graph
from mtl.compare.search import searched_plan, study_name
from tests.compare.helpers import SequentialExecutor


def test_every_row_has_the_same_number_of_trials_and_a_search_resumes(
    table: Path, tmp_path: Path
) -> None:
    definition = yaml.safe_load(table.read_text())
    definition["rows"].pop("both")
    space = {"model.lr": {"low": 1e-5, "high": 1e-2, "log": True}, "data.batch_size": [4, 8]}
    definition["sizes"]["mini"] |= {"seeds": [1], "search": {"trials": 2, "space": space}}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    plan = Plan(Experiment.read(str(tmp_path / "table.yaml")), "mini")
    machines: list[SequentialExecutor] = []

    def machine() -> SequentialExecutor:
        machines.append(SequentialExecutor())
        return machines[-1]

    best = searched_plan(plan, tmp_path / "runs", machine, tmp_path / "search.log")
    assert [len(best.experiment.rows[name].grid["model.lr"]) for name in ("alone", "together")] == [
        1,
        1,
    ]
    assert (
        sum(machine.done for machine in machines) == 2 * 2 + 2 * 1
    )  # two trials: of each task alone, and of both together
    other = searched_plan(
        Plan(Experiment.read(str(tmp_path / "table.yaml")), "mini", (2,)),
        tmp_path / "runs",
        None,
        tmp_path / "search.log",
    )
    assert (
        "model.lr" not in other.experiment.rows["alone"].grid
    )  # what was found with seed 1 is not seed 2's
    again = searched_plan(plan, tmp_path / "runs", machine, tmp_path / "search.log")
    assert again.experiment.rows == best.experiment.rows and len(machines) == 1
    runs = RunIndex(best, tmp_path / "runs")
    last = SequentialExecutor()
    assert not run_graph(best.all_runs(), best.dependencies, runs.job, last)
    assert last.done == 0  # the best trial is the row's run with the first seed
    note = tuning_note(Results(best, runs.finished_folders(), {}))
    assert "2 trials per row; chosen: alone model.lr" in note


def test_a_search_with_changed_configs_is_another_study(table: Path, tmp_path: Path) -> None:
    definition = yaml.safe_load(table.read_text())
    definition["sizes"]["mini"] |= {"search": {"trials": 1, "space": {"model.lr": [1e-4]}}}
    (tmp_path / "method.yaml").write_text(
        "model: {class_path: MultiHead, init_args: {dropout: 0.1}}\n"
    )
    definition["rows"]["together"]["configs"] = ["sampling/sequential", str(tmp_path / "method")]
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    plan = Plan(Experiment.read(str(tmp_path / "table.yaml")), "mini")
    before = {row: study_name(plan, row) for row in ("alone", "together")}
    (tmp_path / "method.yaml").write_text(
        "model: {class_path: MultiHead, init_args: {dropout: 0.2}}\n"
    )
    assert (
        study_name(plan, "together") != before["together"]
        and study_name(plan, "alone") == before["alone"]
    )
