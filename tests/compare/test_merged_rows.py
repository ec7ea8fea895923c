"""Rows that merge the runs of single tasks: what they run, what they cost, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtl.compare.definition import Experiment
from mtl.compare.definition_export import definition_yaml
from mtl.compare.notes import merging_note
from mtl.errors import UserError
from tests.compare.helpers import SequentialExecutor, done, the_run


@pytest.fixture
def table(task_files: list[Path], backbone: str, tmp_path: Path) -> Path:
    """Two tasks, each with one of two rates, and their runs merged in two ways."""
    alone = {"of": "task", "options": {"model": "MultiHead"}, "grid": {"model.lr": [1e-4, 1e-2]}}
    ties = {"method": "ties", "density": 0.5, "scale": [0.5, 1.0]}
    dare = {"method": "dare", "density": 0.5, "scale": 1, "seed": "{seed}"}
    size = {
        "backbone": backbone,
        "options": {
            "trainer.accelerator": "cpu",
            "data.max_length": 16,
            "data.cache": str(tmp_path / "cache"),
            "trainer.max_epochs": 1,
        },
        "seeds": [3],
    }
    definition = {
        "question": "Is a merged encoder as good?",
        "tasks": [str(file) for file in task_files[:2]],
        "baseline": "alone",
        "budget": "one pass",
        "rows": {
            "alone": alone,
            "TIES": {"command": "merge", "uses": {"runs": "alone"}, "options": ties},
            "DARE": {"command": "merge", "uses": {"runs": "alone"}, "options": dare},
        },
        "sizes": {"mini": size},
    }
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    return tmp_path / "table.yaml"


def test_a_row_merges_the_runs_of_another_with_the_same_seed(table: Path, tmp_path: Path) -> None:
    machine = SequentialExecutor()
    results = done(table, machine)
    assert machine.done == 2 * 2 + 2
    singles = {the_run(results, "alone", 3, task) for task in ("mood", "same")}
    for row, scales, seed in (("TIES", [0.5, 1.0], 0), ("DARE", [1.0], 3)):
        folder = results.folders[the_run(results, row, 3, None)]
        merging = json.loads((folder / "metrics.json").read_text())["merge"]
        # Of each task's grid the run with the better validation score.
        merged = {Path(each["run"]) for each in merging["runs"]}
        assert merged == {results.folders[run] for run in singles}
        assert [each["scale"] for each in merging["candidates"]] == scales
        assert merging["seed"] == seed
        cost = results.cost(row)
        assert cost.examples == cost.steps == cost.trained == 0
        assert cost.total and cost.total < (results.cost("alone").total or 0)
    assert list(merging_note(results)) == [
        f"{row}: without the training of the runs of 'alone' that it merges"
        for row in ("TIES", "DARE")
    ]
    again = SequentialExecutor()
    (tmp_path / "again.yaml").write_text(definition_yaml(results.plan))
    done(tmp_path / "again.yaml", again)
    assert results.rows == ["alone", "TIES", "DARE"] and again.done == 0


@pytest.mark.parametrize(
    "change",
    [{"uses": {}}, {"uses": {"model.init_from": "alone"}}, {"of": "task"}, {"configs": ["x"]}],
)
def test_a_row_that_merges_has_nothing_else(table: Path, change: dict[str, Any]) -> None:
    definition = yaml.safe_load(table.read_text())
    definition["rows"]["TIES"] |= change
    table.write_text(yaml.safe_dump(definition, sort_keys=False))
    with pytest.raises(UserError, match=r"rows: TIES: a row that merges has `uses: \{runs: ROW\}`"):
        Experiment.read(str(table))
