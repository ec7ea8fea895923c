"""Configurations that ship with the package are found by name, from any folder."""

import json
from pathlib import Path

import pytest
import yaml

from mtl.__main__ import main
from mtl.cli.parsed import parse_command, run_name_of
from mtl.cli.score_prototypes import scores_folder_name
from mtl.errors import UserError
from mtl.export.backbone import public_name
from mtl.modules.backbone import load_config
from mtl.system.hardware import fast_precision
from mtl.system.package_data import CONFIGS, config_names, find_config
from mtl.tasks import Task

LOCAL = "model: {class_path: MultiHead, init_args: {lr: 0.123}}\n"


def test_every_shipped_config_is_found_by_its_name_from_any_folder(in_tmp: Path) -> None:
    names = config_names()
    assert {"suites/samples", "methods/pals", "sampling/mixed", "tasks/samples/sentiment"} <= set(
        names
    )
    for name in names:
        assert find_config(name) == CONFIGS / f"{name}.yaml"


@pytest.mark.parametrize("file", ["methods/pals", "methods/pals.yaml"])
def test_a_local_file_of_that_path_has_precedence(in_tmp: Path, file: str) -> None:
    (in_tmp / "methods").mkdir()
    (in_tmp / file).write_text(LOCAL)
    command = parse_command(["fit", "-c", "suites/samples", "-c", "methods/pals"])
    assert command.config.fit.model.init_args.lr == 0.123


@pytest.mark.parametrize("form", [["-c", "{}"], ["--config", "{}"], ["--config={}"], ["-c{}"]])
def test_a_name_is_the_same_as_its_file(in_tmp: Path, form: list[str]) -> None:
    def options(*configs: str) -> list[str]:
        return [part.format(config) for config in configs for part in form]

    files = [str(CONFIGS / f"{name}.yaml") for name in ("suites/samples", "methods/pals")]
    by_name = run_name_of(["fit", *options("suites/samples", "methods/pals")])
    assert by_name == run_name_of(["fit", *options(*files)])
    assert by_name.startswith("PALs-")
    scores = ["--data", "SequentialDataModule", "--backbone", "bundled"]
    assert scores_folder_name([*options("suites/mnli_genres"), *scores]) == scores_folder_name(
        [*options(str(CONFIGS / "suites/mnli_genres.yaml")), *scores]
    )


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("suites/sampels", "suites/samples"),
        ("configs/methods/pals.yaml", "methods/pals"),
        ("methods/pals.yaml", "methods/pals"),
        ("pals", "methods/pals"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "test", "doctor", "score-prototypes", "predict"])
def test_an_unknown_name_is_refused_with_the_nearest(
    in_tmp: Path, capsys: pytest.CaptureFixture[str], command: str, name: str, nearest: str
) -> None:
    with pytest.raises(SystemExit):
        main([command, "-c", name])
    assert f"-c {name}: no such file" in (error := capsys.readouterr().err)
    assert error.endswith(f"Did you mean {nearest!r}?\n")


def test_tasks_are_found_by_name_with_their_data(in_tmp: Path) -> None:
    task = Task.read("tasks/samples/sentiment")
    assert task.source.path and (Path(task.source.path) / "train.csv").is_file()
    (in_tmp / "tasks/samples").mkdir(parents=True)
    local = {"name": "mine", "texts": ["text"], "classes": ["a", "b"]}
    (in_tmp / "tasks/samples/sentiment").write_text(yaml.safe_dump(local))
    assert Task.read("tasks/samples/sentiment").name == "mine"
    with pytest.raises(UserError, match="there is no such task file"):
        Task.read("tasks/samples/sentiments")


def test_fast_precision_is_resolved_before_the_run_is_named_and_saved(in_tmp: Path) -> None:
    (in_tmp / "fast.yaml").write_text("trainer: {precision: fast}\n")
    base = ["fit", "-c", "suites/samples"]
    names = {
        run_name_of([*base, *options])
        for options in (
            ["--trainer.precision", "fast"],
            ["-c", "fast.yaml"],
            ["--trainer.precision", fast_precision()],
        )
    }
    assert len(names) == 1
    trainer = parse_command([*base, "--trainer.precision", "fast"]).config.fit.trainer
    assert trainer.precision == fast_precision()
    scores = ["-c", "suites/mnli_genres", "--data", "SequentialDataModule", "--trainer.precision"]
    assert scores_folder_name([*scores, "fast"]) == scores_folder_name([*scores, fast_precision()])


def test_the_bundled_encoder_keeps_its_name_and_loads(in_tmp: Path) -> None:
    command = parse_command(["fit", "-c", "suites/samples", "--backbone", "bundled"])
    assert command.config.fit.backbone == "bundled"  # a run can be moved to another machine
    assert json.loads(load_config("bundled").to_json_string())["hidden_size"] == 384
    assert public_name("bundled") == "sentence-transformers/all-MiniLM-L6-v2"
