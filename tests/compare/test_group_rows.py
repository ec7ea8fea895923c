"""Rows with one run for each group of tasks: what they train, and which run a score comes from."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtl.cli.parsed import parse_command
from mtl.compare.definition import Experiment
from mtl.compare.definition_export import definition_yaml
from mtl.compare.notes import row_note
from mtl.compare.plan import Plan
from mtl.compare.run_arguments import run_arguments
from mtl.errors import UserError
from tests.compare.helpers import SequentialExecutor, done, lacking, the_run

OPTIONS = {"model": "MultiHead", "model.lr": 1e-3}


@pytest.fixture
def table(task_files: list[Path], backbone: str, tmp_path: Path) -> Path:
    """Three tasks: alone, in two groups, and in two groups that overlap."""
    definition = {
        "question": "Are the groups better?",
        "tasks": [str(file) for file in task_files],
        "columns": ["mood", "same.accuracy", "near"],
        "baseline": "alone",
        "budget": "one pass",
        "rows": {
            "alone": {"of": "task", "options": OPTIONS},
            "groups": {"of": [["same"], ["mood", "near"]], "options": OPTIONS},
            "overlapping": {"of": [["mood", "near"], ["same", "near"]], "options": OPTIONS},
        },
        "sizes": {
            "mini": {
                "backbone": backbone,
                "options": {
                    "trainer.accelerator": "cpu",
                    "data.max_length": 16,
                    "data.cache": str(tmp_path / "cache"),
                    "trainer.max_epochs": 1,
                },
                "seeds": [1],
            }
        },
    }
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    return tmp_path / "table.yaml"


def plan(table: Path) -> Plan:
    return Plan(Experiment.read(str(table)), "mini")


def test_a_group_is_one_run_and_a_group_of_one_is_the_run_of_its_task(table: Path) -> None:
    runs = plan(table)
    assert runs.row_tasks("groups") == ["same", "mood+near"]
    alone, groups = (list(runs.runs(row)) for row in ("alone", "groups"))
    arguments = [run_arguments(runs, run, {}) for run in groups]
    named = [[word for word in words if word.startswith("--tasks+=")] for words in arguments]
    assert [[Path(word).stem for word in words] for words in named] == [["same"], ["mood", "near"]]
    [same] = [run for run in alone if run.task == "same"]
    assert arguments[0] == run_arguments(runs, same, {})
    assert "groups: one run for each group: same; mood + near;" in row_note(
        "groups", runs.experiment.rows["groups"], {}
    )


def test_a_task_of_two_groups_has_the_score_of_the_run_with_its_best_validation(
    table: Path, tmp_path: Path
) -> None:
    results = done(table, SequentialExecutor())
    # The group of one task and `mood+near` are trained once.
    assert len(set(results.folders.values())) == 3 + 1 + 1
    validated = {}
    for group in ("mood+near", "same+near"):
        record = results.folders[the_run(results, "overlapping", 1, group)] / "metrics.json"
        contents: dict[str, Any] = json.loads(record.read_text())
        validated[group] = contents["validation"]["tasks"]["near"]["score"]
    chosen = results.run("overlapping", 1, "near")
    assert chosen is not None and chosen.task == max(validated, key=validated.__getitem__)
    of_same = results.run("overlapping", 1, "same.accuracy")
    assert of_same is not None and of_same.task == "same+near"
    assert results.complete
    one_missing = lacking(results, the_run(results, "overlapping", 1, "same+near"))
    assert one_missing.run("overlapping", 1, "near") is None
    assert one_missing.run("overlapping", 1, "mood") is not None
    (tmp_path / "again.yaml").write_text(definition_yaml(results.plan))
    again = SequentialExecutor()
    done(tmp_path / "again.yaml", again)
    assert again.done == 0


def test_a_size_without_a_task_has_the_groups_without_it(table: Path) -> None:
    contents = yaml.safe_load(table.read_text())
    contents["sizes"]["mini"] |= {"tasks": ["mood", "same"], "columns": ["mood"]}
    table.write_text(yaml.safe_dump(contents, sort_keys=False))
    assert plan(table).row_tasks("groups") == ["same", "mood"]


def test_a_row_starts_from_the_runs_of_its_group(table: Path) -> None:
    contents = yaml.safe_load(table.read_text())
    uses = {"model.init_from": "groups"}
    contents["rows"] |= {
        "again": {"of": "task", "options": OPTIONS, "uses": uses},
        "all": {"options": OPTIONS, "uses": {"runs": "alone"}},
        "taught": {"of": [["mood", "near"], ["same"]], "options": OPTIONS, "uses": {"x": "alone"}},
    }
    table.write_text(yaml.safe_dump(contents, sort_keys=False))
    runs = plan(table)
    used = {run.task: runs.used_runs(run) for run in runs.runs("again")}
    assert {task: [each.task for each in of["model.init_from"]] for task, of in used.items()} == {
        "mood": ["mood+near"],
        "same": ["same"],
        "near": ["mood+near"],
    }
    group, single = (runs.used_runs(run) for run in runs.runs("taught"))
    assert set(group) == {"x@mood", "x@near"} and set(single) == {"x"}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "give at least one group"),
        ([["mood", "sam"], ["near", "same"]], "unknown task 'sam'"),
        ([["mood", "mood"], ["near", "same"]], "name each task of a group once"),
        ([["mood", "near"]], "no group has 'same'"),
    ],
)
def test_groups_that_cannot_be_trained_are_refused(
    table: Path, groups: list[list[str]], message: str
) -> None:
    contents = yaml.safe_load(table.read_text())
    contents["rows"]["groups"]["of"] = groups
    table.write_text(yaml.safe_dump(contents, sort_keys=False))
    with pytest.raises(UserError, match=f"rows: groups: of: .*{message}"):
        Experiment.read(str(table))


def test_a_row_may_start_from_another_backbone(
    table: Path, backbone: str, masked_backbone: str
) -> None:
    contents = yaml.safe_load(table.read_text())
    contents["rows"]["other start"] = {"options": OPTIONS | {"backbone": masked_backbone}}
    table.write_text(yaml.safe_dump(contents, sort_keys=False))
    runs = plan(table)
    started = {}
    for row in ("groups", "other start"):
        [*_, run] = runs.runs(row)
        config = parse_command(["fit", *run_arguments(runs, run, {})]).config
        started[row] = config.fit.backbone
    assert started == {"groups": backbone, "other start": masked_backbone}
