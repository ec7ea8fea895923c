"""The definition of a comparison: what is refused, inherited, and restricted to a size."""

import re
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path

import pytest
import yaml

from mtl.cli.merge import add_arguments
from mtl.cli.parsed import run_name_of
from mtl.compare.definition import Experiment
from mtl.compare.definition_fields import REQUIRED
from mtl.compare.definition_parts import Preset
from mtl.compare.merge_arguments import merge_arguments
from mtl.compare.plan import Plan
from mtl.compare.run_arguments import run_arguments
from mtl.errors import UserError
from mtl.system.package_data import CONFIGS, TABLES

NAMES = sorted(file.stem for file in TABLES.glob("*.yaml"))
ALONE = {"of": "task", "options": {"model": "MultiHead"}}
SIZE = {"backbone": "bundled", "seeds": [1, 2]}


def test_an_invalid_definition_is_refused_with_a_remedy(table: Path, tmp_path: Path) -> None:
    good, table = yaml.safe_load(table.read_text()), tmp_path / "table.yaml"

    def refused(**changed: object) -> str:
        table.write_text(yaml.safe_dump(good | changed, sort_keys=False))
        with pytest.raises(UserError) as error:
            Experiment.read(str(table))
        return str(error.value)

    assert (
        "baseline: unknown row 'alon'. Choose from: alone, together, both. Did you mean 'alone'?"
        in refused(baseline="alon")
    )
    assert (
        "rows: both: unknown row 'togther'. Choose from: alone, together, both. Did you mean"
        in refused(
            rows=good["rows"]
            | {"both": good["rows"]["both"] | {"uses": {"model.init_from": "togther"}}}
        )
    )
    for row in (good["rows"]["together"], good["rows"]["alone"] | {"command": "none"}):
        assert (
            "no row trains each task alone; every comparison needs one with `of: task`"
            in refused(rows={"alone": row}, published=None)
        )
    typed = {"together": good["rows"]["together"] | {"configs": ["sampling/sequental"]}}
    message = refused(rows=good["rows"] | typed)
    assert "Did you mean 'sampling/sequential'?" in message
    assert "Did you mean 'samples'?" in refused(suite="sampels")
    assert f"suite: no file '{tmp_path}/my/suite.yaml'. Give a file" in refused(
        suite="my/suite.yaml"
    )
    assert "crossed: expected two sets" in refused(crossed={name: {"a": {}} for name in "abc"})
    refused_size = good | {"columns": ["mood.f2"]}
    table.write_text(yaml.safe_dump(refused_size, sort_keys=False))
    with pytest.raises(
        UserError, match="columns: mood.f2: unknown metric 'f2'. Choose from: accuracy"
    ):
        Plan(Experiment.read(str(table)), "mini")
    with pytest.raises(UserError, match="table: unknown table 'amazn'"):
        Experiment.read("amazn")


def with_something_new(commands: dict[str, list[str]]) -> Iterator[tuple[str, list[str]]]:
    """The rows whose words do not all occur in rows before: not every pair of a crossed table."""
    seen: set[str] = set()
    for row, words in commands.items():
        if not seen.issuperset(words):
            yield row, words
        seen.update(words)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        *(
            ({name: None}, f"{name} is missing; give {example}")
            for name, example in REQUIRED.items()
        ),
        ({"suite": ""}, "give either a suite or a list of tasks"),
        ({"published": {"rows": {}}}, "published: source is missing; give the publication"),
        ({"margin": -1}, "margin: -1: give a number of points, 0 or more"),
        ({"margin": float("nan")}, "margin: nan: give a number of points, 0 or more"),
        ({"target": 0}, "target: 0: give a number of points above 0"),
        ({"sizes": {"mini": {"seeds": [1]}}}, "sizes: mini: backbone is missing"),
        ({"sizes": {"mini": SIZE | {"seeds": [1, 1]}}}, "sizes: mini: seeds: [1, 1]: give each"),
        (
            {"sizes": {"mini": SIZE | {"seeds": [0], "search": {}}}},
            "sizes: mini: search: seed 0 is one of",
        ),
        ({"rows": {"alone": ALONE}}, "rows: alone at size mini: nothing to compare; give the"),
        (
            {"rows": {"alone": ALONE, "both": ALONE | {"shown": False}}},
            "rows: alone at size mini: nothing to compare",
        ),
        (
            {"rows": {"alone": ALONE, "both": ALONE | {"against": "both"}}},
            "rows: both: against: a row cannot be compared with itself",
        ),
        (
            {"rows": {"alone": ALONE, "both": ALONE | {"uses": {"model.init_from": "both"}}}},
            "rows: both: uses: a row cannot use its own run",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_with_field_and_value(
    table: Path, tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    definition = yaml.safe_load(table.read_text()) | {"published": None} | changed
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    with pytest.raises(UserError, match=re.escape(f"table.yaml: {message}")):
        Experiment.read(str(tmp_path / "table.yaml"))


def test_the_required_fields_are_those_without_a_default() -> None:
    assert list(REQUIRED) == [each.name for each in fields(Experiment) if _is_required(each)]
    assert [each.name for each in fields(Preset) if _is_required(each)] == ["backbone"]


def _is_required(each: Field[object]) -> bool:
    return each.default is MISSING and each.default_factory is MISSING


def test_a_file_does_not_inherit_from_itself(tmp_path: Path) -> None:
    for name, like in (("self", "self"), ("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.yaml").write_text(f"like: {like}.yaml")
    for name in ("self", "a", "b"):
        with pytest.raises(UserError, match=rf"{name}\.yaml: like: .*cannot inherit from itself"):
            Experiment.read(str(tmp_path / f"{name}.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_table_of_the_project_can_be_parsed(name: str) -> None:
    table = Experiment.read(name)
    for size in table.sizes:
        plan = Plan(table, size)
        assert plan.all_runs()
        first = {
            run.row: run_arguments(plan, run, dict.fromkeys(plan.used_runs(run), "folder"))
            for run in reversed(plan.all_runs())
        }
        for row, words in with_something_new(first) if size == "mini" else ():
            command = {"fit": "fit", "none": "test"}.get(table.rows[row].command)
            if command:  # the other commands have their own options
                assert run_name_of([command, *words])
        for run in plan.all_runs():
            if plan.experiment.rows[run.row].command == "merge":
                parser = ArgumentParser(exit_on_error=False)
                add_arguments(parser)
                words = [*merge_arguments(plan, run, ["a", "b"]), "--out", "c"]
                args, evaluation = parser.parse_known_args(words)
                assert args.runs == ["a", "b"] and args.out == "c"
                assert {word.partition(".")[0] for word in evaluation[::2]} <= {
                    "--trainer",
                    "--data",
                }


def test_a_suite_may_be_in_the_folder_of_its_table(table: Path) -> None:
    definition = yaml.safe_load(table.read_text())
    copy = table.parent / "copy.yaml"
    copy.write_text(yaml.safe_dump(definition | {"suite": "suite.yaml"}, sort_keys=False))
    assert Experiment.read(str(copy)).task_files == Experiment.read(str(table)).task_files


def test_a_table_inherits_from_another_with_like(table: Path, tmp_path: Path) -> None:
    def written(name: str, **fields: object) -> str:
        (tmp_path / name).write_text(yaml.safe_dump(fields, sort_keys=False))
        return str(tmp_path / name)

    changed = {
        "rows": {"both": {"options": {"model.lr": 0.5}}},
        "sizes": {"mini": {"values": {"epochs": 7}}},
        "published": None,
    }
    mine = Experiment.read(written("mine.yaml", like=str(table), question="Mine?", **changed))
    other = Experiment.read(str(table))
    assert (mine.question, mine.published, other.published is None) == ("Mine?", None, False)
    assert mine.task_files == other.task_files and list(mine.rows) == list(other.rows)
    assert mine.rows["both"].options == {"model": "MultiHead", "model.lr": 0.5}
    assert mine.rows["alone"] == other.rows["alone"]
    assert (
        mine.sizes["mini"].values == {"epochs": 7}
        and mine.sizes["mini"].options == other.sizes["mini"].options
    )
    with pytest.raises(UserError, match="unknown table 'samles'.*Did you mean 'samples'"):
        Experiment.read(written("lost.yaml", like="samles"))
    with pytest.raises(UserError, match=f"itself has `like: {table}`"):
        Experiment.read(written("third.yaml", like=str(tmp_path / "mine.yaml")))


def test_a_size_may_have_some_of_the_suites_tasks(table: Path, tmp_path: Path) -> None:
    definition = yaml.safe_load(table.read_text())
    definition["published"]["rows"] = {
        "together": {"mood": 99.9, "mean": 90},
        "alone": {"same.f1": 80, "mean": 85},
    }
    size = definition["sizes"]["mini"]

    def plan(**fields: object) -> Plan:
        definition["sizes"]["mini"] = size | fields
        (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
        return Plan(Experiment.read(str(tmp_path / "table.yaml")), "mini")

    whole, some = plan(), plan(tasks=["mood"])
    assert list(whole.experiment.shown_columns) == ["mood", "same.accuracy", "same.f1"] and list(
        some.experiment.shown_columns
    ) == ["mood"]
    together = next(some.runs("together"))
    assert [word for word in run_arguments(some, together, {}) if word.startswith("--tasks+=")] == [
        f"--tasks+={some.task_files['mood']}"
    ]
    assert {run.task for run in some.runs("alone")} == {"mood"} and {
        run.task for run in whole.runs("alone")
    } == {"mood", "same"}
    # A published mean over other columns than ours is dropped.
    assert (
        whole.experiment.published
        and whole.experiment.published.rows == definition["published"]["rows"]
    )
    assert some.experiment.published and some.experiment.published.rows == {
        "together": {"mood": 99.9}
    }
    with pytest.raises(UserError, match="tasks: unknown task 'moood'"):
        plan(tasks=["moood"])
    (tmp_path / "scored.yaml").write_text(
        yaml.safe_dump(yaml.safe_load(Path(definition["suite"]).read_text()) | {"score": "same.f1"})
    )
    definition["suite"] = str(tmp_path / "scored.yaml")
    with pytest.raises(UserError, match="tasks: the suite's score needs 'same'"):
        plan(tasks=["mood"])


def test_methods_x_schemes_has_every_method_and_scheme() -> None:
    crossed = Experiment.read("methods_x_schemes").crossed
    for kind, folder, others in (
        ("method", "methods", set()),
        ("scheme", "sampling", {"k_shot", "leave_one_out"}),
    ):
        assert (
            set(crossed[kind]) == {file.stem for file in (CONFIGS / folder).glob("*.yaml")} - others
        )


def test_tasks_may_be_listed_by_file_and_by_name(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = yaml.safe_load(table.read_text()) | {"columns": [], "published": None}
    mood = next(iter(Experiment.read(str(table)).task_files.values()))
    fields = yaml.safe_load(mood.read_text()) | {"source": {"path": str(mood.parent / "mood")}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(fields))
    definition["tasks"] = ["mine.yaml", "tasks/samples/sentiment"]
    del definition["suite"]
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    monkeypatch.chdir(table.parent)  # files are relative to the definition, not to this folder
    assert list(Experiment.read(str(tmp_path / "table.yaml")).task_files) == ["mood", "sentiment"]
    changes: list[dict[str, object]] = [{"suite": "samples"}, {"tasks": []}]
    for changed in changes:
        (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition | changed))
        with pytest.raises(UserError, match="give either a suite or a list of tasks"):
            Experiment.read(str(tmp_path / "table.yaml"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"looks": [10, 5]}, "looks: \\[10, 5\\]: give increasing numbers of seeds"),
        ({"looks": [1, 5]}, "looks: \\[1, 5\\]: give increasing numbers of seeds, 2 or more"),
        ({"targett": 1}, "unknown field 'targett'. Choose from: .* Did you mean 'target'?"),
        ({"rows": 3}, "rows: expected a mapping of names to fields, got 3"),
        ({"rows": {"a": {"optionss": {}}}}, "rows: a: unknown field .* Did you mean 'options'?"),
        ({"rows": {"a": {"target": 1}}}, "rows: a: unknown field 'target'. Choose from: of, .*"),
        ({"sizes": {"m": {"backbon": "x"}}}, "sizes: m: unknown field .* mean 'backbone'?"),
        ({"sizes": {"m": {"search": {"trails": 2}}}}, "sizes: m: search: .* mean 'trials'?"),
        ({"sizes": {"m": {"backbone": "x", "seeds": []}}}, "sizes: m: seeds: give at least one"),
        ({"sizes": {"m": {"backbone": "x", "seeds": [-1]}}}, "sizes: m: seeds: -1: give 0 or"),
    ],
)
def test_the_fields_of_the_decision_are_checked(
    table: Path, tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    definition = yaml.safe_load(table.read_text()) | changed
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    with pytest.raises(UserError, match=message):
        Experiment.read(str(tmp_path / "table.yaml"))


def test_the_seed_draws_the_subset_if_rows_are_paired(table: Path, tmp_path: Path) -> None:
    definition = yaml.safe_load(table.read_text()) | {"paired": True}

    def subset_seeds(**options: object) -> list[str]:
        size = definition["sizes"]["mini"]
        changed = {"mini": size | {"options": size["options"] | options}}
        (tmp_path / "table.yaml").write_text(
            yaml.safe_dump(definition | {"sizes": changed}, sort_keys=False)
        )
        plan = Plan(Experiment.read(str(tmp_path / "table.yaml")), "mini")
        arguments = [run_arguments(plan, run, {}) for run in plan.runs("together")]
        return [
            words[words.index("--data.subset_seed") + 1]
            for words in arguments
            if "--data.subset_seed" in words
        ]

    assert subset_seeds(**{"data.max_examples": 20}) == ["1", "2"]
    assert subset_seeds() == []


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"model.lr": []}, "search: space: model.lr: give at least one value"),
        ({"model.lr": {"min": 1, "max": 2}}, "expected a list, or a range such as {low: "),
        ({"model.lr": {"low": 1, "high": 2, "step": 1}}, "unknown field 'step'"),
        ({"model.lr": {"low": 2, "high": 1}}, "give a low that is smaller than high"),
        ({"model.lr": {"low": 0, "high": 1, "log": True}}, "give a low above 0 that is smaller"),
    ],
)
def test_a_search_space_that_cannot_be_searched_is_refused(
    space: dict[str, object], message: str, table: Path, tmp_path: Path
) -> None:
    fields = yaml.safe_load(table.read_text())
    fields["sizes"]["mini"]["search"] = {"trials": 2, "seed": 99, "space": space}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
    with pytest.raises(UserError, match=re.escape(message)):
        Experiment.read(str(tmp_path / "mine.yaml"))


def test_a_row_is_not_searched_without_a_number_of_trials(table: Path, tmp_path: Path) -> None:
    fields = yaml.safe_load(table.read_text())
    fields["rows"]["together"]["search"] = {"model.lr": [1e-4, 1e-3]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
    with pytest.raises(UserError, match="rows: together: search: no size of this row has a"):
        Experiment.read(str(tmp_path / "mine.yaml"))


def test_more_seeds_never_include_that_of_the_search(table: Path, tmp_path: Path) -> None:
    fields = yaml.safe_load(table.read_text())
    size = fields["sizes"]["mini"]
    size["seeds"], size["search"] = [1, 2], {"trials": 1, "seed": 3, "space": {"model.lr": [1e-4]}}
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(fields, sort_keys=False))
    plan = Plan(Experiment.read(str(tmp_path / "mine.yml")), "mini")
    assert plan.with_seeds(4).seeds == (1, 2, 4, 5)
    (tmp_path / "other.yml").write_text("like: mine.yml\nlooks: [3]\n")
    assert Plan(Experiment.read(str(tmp_path / "other.yml")), "mini").seeds == (1, 2, 4)
    (tmp_path / "bad.yaml").write_text("like: [a]\n")
    with pytest.raises(UserError, match="like: expected a file or the name of a table, got"):
        Experiment.read(str(tmp_path / "bad.yaml"))


def test_tasks_of_a_file_next_to_the_definition_are_found_from_any_folder(
    table: Path, task_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = yaml.safe_load(table.read_text()) | {"published": None}
    fields.pop("suite")
    tasks = [yaml.safe_load(file.read_text()) for file in task_files]
    for task, file in zip(tasks, task_files, strict=True):
        task["source"]["path"] = str((file.parent / task["source"]["path"]).resolve())
    folder = tmp_path / "definition"
    folder.mkdir()
    for task in tasks:
        (folder / f"{task['name']}.yaml").write_text(yaml.safe_dump(task))
    names = [task["name"] for task in tasks]
    fields["tasks"] = [f"{names[0]}.yaml#{names[0]}", *names[1:]]  # with a task, without suffix
    (folder / "mine.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    assert list(Experiment.read("definition/mine.yaml").task_files) == names
