from pathlib import Path

import pytest
import yaml

from mtl.cli import doctor
from mtl.cli.command import parse_arguments
from mtl.system.libraries import Library


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtl.cli.machine_checks.hub_error", lambda: "no network")


def run(*arguments: str) -> int:
    return doctor.run(parse_arguments("doctor", arguments, doctor.add_arguments, True))


def output(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, without the table's borders and line breaks."""
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_a_working_machine_has_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    text = output(capsys)
    assert "torch 2." in text and "--trainer.precision" in text
    assert "note: hub: give --backbone a directory" in text


def test_an_incompatible_version_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Library("torch", "1.0", ">=2.8", False, None)
    missing = Library("optuna", None, ">=4.0", False, "search")
    monkeypatch.setattr("mtl.cli.machine_checks.libraries", lambda: [old, missing])
    assert run() == 1
    text = output(capsys)
    assert "problem: torch: pip install 'torch>=2.8'" in text
    assert "pip install 'mtl-text[search]'" in text


def test_a_training_that_can_run_has_status_0(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [f"--tasks+={file}" for file in task_files]
    assert run(*tasks, "--backbone", backbone, "--data.max_length", "16") == 0
    text = output(capsys)
    assert "task mood, train 44 examples" in text
    assert "memory (estimate: weights" in text


def test_more_gpus_than_available_are_a_problem(
    task_files: list[Path],
    backbone: str,
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    options = [f"--tasks+={task_files[0]}", "--backbone", backbone, "--data.max_length", "16"]
    assert run(*options, "--trainer.accelerator", "gpu", "--trainer.devices", "2") == 1
    assert "2 GPUs configured, 0 available" in output(capsys)


def test_unusable_rows_are_reported_and_the_other_tasks_are_counted(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = yaml.safe_load(task_files[0].read_text())
    fields |= {
        "name": "typo",
        "classes": ["bad", "god"],
        "source": {"path": str(task_files[0].parent / "mood")},
    }
    fields.pop("prompt")
    Path("typo.yaml").write_text(yaml.safe_dump(fields))
    tasks = ["--tasks+=typo.yaml", f"--tasks+={task_files[1]}"]
    assert run(*tasks, "--backbone", backbone, "--data.max_length", "16") == 1
    text = output(capsys)
    assert "problem: task typo, train: " in text and "label 'good'" in text
    assert "task same, train 44 examples" in text


def test_a_full_disk_is_a_problem(
    task_files: list[Path],
    backbone: str,
    in_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("mtl.cli.training_checks.free_disk", lambda folder: 1000)
    options = [f"--tasks+={task_files[0]}", "--backbone", backbone, "--data.max_length", "16"]
    assert run(*options) == 1
    assert "not enough: choose a folder on another disk with --out" in output(capsys)


def test_data_are_checked_without_the_encoder(
    task_files: list[Path], in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = yaml.safe_load(task_files[0].read_text()) | {"name": "lost", "source": {"path": "x"}}
    Path("lost.yaml").write_text(yaml.safe_dump(fields))
    tasks = [f"--tasks+={task_files[1]}", "--tasks+=lost.yaml"]
    assert run(*tasks, "--backbone", str(in_tmp)) == 1
    text = output(capsys)
    assert "problem: training: --backbone" in text and "task same, train 44 examples" in text
    assert "problem: task lost, train: " in text and "there is no such folder" in text


def test_wrong_options_of_the_training_are_one_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit:
        doctor.main(["--data.batch_sise", "8"])
    assert exit.value.code == 2
    assert "Did you mean --data.batch_size?" in capsys.readouterr().err
