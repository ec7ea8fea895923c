"""The resolved definition leads to the same runs."""

from pathlib import Path

import pytest
import yaml

from mtl.compare.definition import Experiment
from mtl.compare.definition_export import definition_yaml
from mtl.compare.plan import Plan, default_size
from mtl.compare.run_arguments import run_arguments
from mtl.system.package_data import TABLES, schema_file

NAMES = sorted(file.stem for file in TABLES.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_the_exported_definition_of_every_table_has_the_same_runs_and_options(
    name: str, tmp_path: Path
) -> None:
    size = default_size(Experiment.read(name))
    plan = Plan(Experiment.read(name), size)
    (tmp_path / "comparison.yaml").write_text(definition_yaml(plan), encoding="utf-8")
    again = Plan(Experiment.read(str(tmp_path / "comparison.yaml")), size)
    assert again.experiment.baseline == plan.experiment.baseline
    assert list(again.experiment.rows) == list(plan.experiment.rows)
    assert again.all_runs() == plan.all_runs()
    used = {run: dict.fromkeys(plan.used_runs(run), "folder") for run in plan.all_runs()}
    for run in plan.all_runs():
        assert run_arguments(again, run, used[run]) == run_arguments(plan, run, used[run])


def test_local_files_are_absolute_and_defaults_are_not_written(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(table.parent)
    text = definition_yaml(Plan(Experiment.read("table.yaml"), "mini"))
    first_line = text.splitlines()[0]
    assert first_line == f"# yaml-language-server: $schema={schema_file('comparison')}"
    contents = yaml.safe_load(text)
    assert contents["suite"] == str(table.parent.resolve() / "suite.yaml")
    assert contents["rows"]["alone"] == {"of": "task", "options": {"model": "MultiHead"}}
    assert contents["rows"]["together"]["configs"] == ["sampling/sequential", "methods/multi_head"]
    assert "crossed" not in contents and "margin" not in contents
