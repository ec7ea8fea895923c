"""`mtl doctor`."""

from pathlib import Path
from urllib.error import URLError

import pytest
import yaml
from torchjd.aggregation import PCGrad

from mtl.balancing import Surgery
from mtl.cli.doctor import doctor
from mtl.data import RoundRobinDataModule
from mtl.methods import MultiHead
from mtl.system.hardware import Library, free_memory, hub, libraries
from mtl.system.resource_estimate import estimate_resources
from mtl.tasks import Task


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtl.cli.doctor.hub", lambda: "nobody answers")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_a_machine_that_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor([]) == 0
    text = said(capsys)
    assert "torch 2." in text and "--trainer.precision" in text
    assert "note: hub: give --backbone a directory" in text


def test_a_version_that_does_not_fit_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Library("torch", "1.0", ">=2.8", False, None)
    lacking = Library("optuna", None, ">=4.0", False, "search")
    monkeypatch.setattr("mtl.cli.doctor.libraries", lambda: [old, lacking])
    assert doctor([]) == 1
    text = said(capsys)
    assert "problem: torch: pip install 'torch>=2.8'" in text
    assert "pip install 'mtl[search]'" in text


def test_libraries_are_those_of_the_installed_package() -> None:
    found = {library.name: library for library in libraries()}
    assert found["lightning"].fits and found["lightning"].extra is None
    assert found["optuna"].extra == "search"


def test_a_training_that_can_run(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        *[f"--tasks+={file}" for file in task_files],
        "--backbone",
        backbone,
        "--data.max_length",
        "16",
    ]
    assert doctor(words) == 0
    text = said(capsys)
    assert "task mood, train 44 rows" in text
    assert "memory (estimate: weights" in text


def test_more_gpus_than_there_are_is_a_problem(
    task_files: list[Path],
    backbone: str,
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    words = [f"--tasks+={task_files[0]}", "--backbone", backbone, "--data.max_length", "16"]
    assert doctor([*words, "--trainer.accelerator", "gpu", "--trainer.devices", "2"]) == 1
    assert "2 GPUs wanted, 0 here" in said(capsys)


def test_a_containers_limit_is_what_is_free(
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


def test_rows_that_cannot_be_used_are_told_and_the_others_counted(
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
    assert (
        doctor(
            [
                "--tasks+=typo.yaml",
                f"--tasks+={task_files[1]}",
                "--backbone",
                backbone,
                "--data.max_length",
                "16",
            ]
        )
        == 1
    )
    text = said(capsys)
    assert "label 'good' is none of the task's classes ['bad', 'god']" in text
    assert "task same, train 44 rows" in text


def test_a_disk_that_is_full_is_a_problem(
    task_files: list[Path],
    backbone: str,
    in_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("mtl.cli.doctor.free_disk", lambda folder: 1000)
    assert (
        doctor([f"--tasks+={task_files[0]}", "--backbone", backbone, "--data.max_length", "16"])
        == 1
    )
    assert "not enough: give --out a folder on another disk" in said(capsys)


def test_the_estimate_is_the_sum_of_its_parts(tasks: list[Task], backbone: str) -> None:
    data = RoundRobinDataModule(
        tasks=tasks, backbone=backbone, batch_size=4, max_length=16, mixed=True
    )
    surgery = Surgery(PCGrad, mode="stored")
    model = MultiHead(tasks=tasks, backbone=backbone, balancer=surgery)
    count = sum(parameter.numel() for parameter in model.parameters())
    found = estimate_resources(model, data, rows=100, half=True)
    assert found.memory["weights"] == 4 * count
    assert found.memory["optimiser (two moments)"] == 8 * count
    assert (
        found.memory["activations, at most"] == 4 * 3 * 16 * 32 * 2 * 34
    )  # rows, tasks, tokens, width, layers, bytes
    assert found.memory["gradients of 3 tasks, at most"] == 3 * 4 * count
    assert found.checkpoints == 4 * 4 * count
    assert found.cache == 100 * 16 * 5


def test_the_hub_is_asked_once_and_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*args: object, **kwargs: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("urllib.request.urlopen", nobody)
    assert (hub() or "").endswith("does not answer: no route")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hub() == "HF_HUB_OFFLINE is set"
