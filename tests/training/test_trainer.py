"""The example of the documentation: single-task against multi-task training, in Python."""

import json
from pathlib import Path

import pytest
from lightning.pytorch import seed_everything

import mtl
from mtl.__main__ import main
from mtl.data import RoundRobinDataModule
from mtl.errors import UserError
from mtl.methods import MultiHead
from mtl.tasks import Task
from mtl.training.trainer import trainer


def compare(files: list[Path], backbone: str) -> dict[str, tuple[float, float]]:
    """Returns the validation scores of each task, trained alone and with the others."""
    tasks = [Task.read(file) for file in files]
    for out, subset in {
        "runs/all": tasks,
        **{f"runs/{task.name}": [task] for task in tasks},
    }.items():
        seed_everything(42)
        data = RoundRobinDataModule(tasks=subset, backbone=backbone, max_length=16)
        trainer(out, max_epochs=2, accelerator="cpu").fit(
            MultiHead(tasks=subset, backbone=backbone, lr=1e-3), data
        )
    scores = {
        out.name: mtl.load(out).metrics["validation"]["tasks"] for out in Path("runs").iterdir()
    }
    return {
        task.name: (scores[task.name][task.name]["score"], scores["all"][task.name]["score"])
        for task in tasks
    }


def test_python_and_the_command_line_train_the_same_models(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    scores = compare(task_files, backbone)
    common = ["--backbone", backbone, "--data.max_length", "16", "--model.lr", "1e-3"]
    quick = [
        "--trainer.accelerator",
        "cpu",
        "--trainer.enable_progress_bar",
        "false",
        "--trainer.max_epochs",
        "2",
    ]
    main(["fit", *[f"--tasks+={file}" for file in task_files], *common, *quick, "--out", "command"])
    expected = json.loads(Path("command/metrics.json").read_text())["validation"]["tasks"]
    assert {name: together for name, (_, together) in scores.items()} == {
        name: result["score"] for name, result in expected.items()
    }
    main(["fit", f"--tasks+={task_files[0]}", *common, *quick, "--out", "alone"])
    alone = json.loads(Path("alone/metrics.json").read_text())["validation"]["tasks"]["mood"][
        "score"
    ]
    assert scores["mood"][0] == alone


def test_a_run_in_python_writes_a_complete_folder(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    tasks = [Task.read(file) for file in task_files]
    data = RoundRobinDataModule(tasks=tasks, backbone=backbone, max_length=16)
    trainer("run", max_epochs=1, accelerator="cpu", enable_progress_bar=False).fit(
        MultiHead(tasks=tasks, backbone=backbone), data
    )
    assert sorted(file.name for file in Path("run/checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
    ]
    assert list(Path("run").glob("events.out.tfevents.*"))
    main(
        [
            "test",
            "--ckpt_path",
            "run",
            "--trainer.accelerator",
            "cpu",
            "--trainer.enable_progress_bar",
            "false",
        ]
    )
    assert set(mtl.load("run").metrics["test"]["tasks"]) == {"mood", "same", "near"}
    assert len(mtl.load("run", device="cpu").predict(["good"], task="mood")) == 1
    with pytest.raises(UserError, match="holds a finished run"):
        trainer("run")
