from pathlib import Path
from urllib.error import URLError

import pytest
import yaml
from torchjd.aggregation import PCGrad

from mtl.balancing import Surgery
from mtl.cli import doctor
from mtl.cli.command import parse_arguments
from mtl.data import RoundRobinDataModule
from mtl.methods import MultiHead
from mtl.system.hardware import free_memory, hub_error
from mtl.system.libraries import Library, libraries
from mtl.system.resource_estimate import estimate_resources
from mtl.tasks import Task


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
    assert "pip install 'mtl[search]'" in text


def test_libraries_are_the_requirements_of_the_installed_package() -> None:
    by_name = {library.name: library for library in libraries()}
    assert by_name["lightning"].compatible and by_name["lightning"].extra is None
    assert by_name["optuna"].extra == "search"


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


def test_free_memory_is_limited_by_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    monkeypatch.setattr("mtl.system.hardware.MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr("mtl.system.hardware.CGROUP", tmp_path)
    assert free_memory(gpu=False) == 8000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("4096\n")
    assert free_memory(gpu=False) == 8000 * 1024
    (tmp_path / "memory.max").write_text("1048576\n")
    assert free_memory(gpu=False) == 1048576 - 4096


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


def test_wrong_options_of_the_training_are_one_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit:
        doctor.main(["--data.batch_sise", "8"])
    assert exit.value.code == 2
    assert "Did you mean 'batch_size'?" in capsys.readouterr().err


def test_the_estimate_is_the_sum_of_its_parts(tasks: list[Task], backbone: str) -> None:
    data = RoundRobinDataModule(
        tasks=tasks, backbone=backbone, batch_size=4, max_length=16, mixed=True
    )
    surgery = Surgery(PCGrad, mode="stored")
    model = MultiHead(tasks=tasks, backbone=backbone, balancer=surgery)
    count = sum(parameter.numel() for parameter in model.parameters())
    estimate = estimate_resources(model, data, examples=100, half=True)
    assert estimate.memory["weights"] == 4 * count
    assert estimate.memory["optimizer (two moments)"] == 8 * count
    # examples, tasks, tokens, width, layers, bytes
    assert estimate.memory["activations, at most"] == 4 * 3 * 16 * 32 * 2 * 34
    assert estimate.memory["gradients of 3 tasks, at most"] == 3 * 4 * count
    assert estimate.checkpoints == 4 * 4 * count
    assert estimate.cache == 100 * 16 * 5


def test_hub_error_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert (hub_error() or "").endswith("does not answer: no route")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hub_error() == "HF_HUB_OFFLINE is set"
