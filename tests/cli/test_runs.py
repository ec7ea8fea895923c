"""What a run leaves in its folder, and when a command refuses to touch it."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mtl.__main__ import main

Error = pytest.CaptureFixture[str]


@pytest.fixture
def command(task_files: list[Path], backbone: str, in_tmp: Path) -> list[str]:
    return [
        *("fit", f"--tasks+={task_files[0]}", "--backbone", backbone, "--out", "run"),
        *("--data.batch_size", "8", "--data.max_length", "16", "--trainer.accelerator", "cpu"),
        *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    ]


def refused(args: list[str], capsys: Error) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit:
        main(args)
    assert exit.value.code == 2
    return capsys.readouterr().err


def metrics(folder: str = "run") -> dict[str, Any]:
    def reject(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = Path(folder, "metrics.json").read_text()
    content: dict[str, Any] = json.loads(text, parse_constant=reject)
    return content


def state(folder: str) -> dict[str, str]:
    """Every file of a folder, with a digest of its content."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def test_a_diverging_training_stops_with_step_task_and_remedy(
    command: list[str], capsys: Error
) -> None:
    error = refused([*command, "--model.lr", "1e30", "--model.warmup", "0"], capsys)
    assert "step 2: the loss of task 'mood' is nan. Training stops" in error
    assert "Lower --model.lr (1e+30)" in error
    assert list(Path("run").rglob("*.ckpt")) == list(Path("run").rglob("metrics.json")) == []


def test_weights_that_are_not_finite_are_not_saved(command: list[str], capsys: Error) -> None:
    end = ["--trainer.max_steps", "1", "--trainer.limit_val_batches", "0"]
    error = refused([*command, *end, "--model.lr", "1e39", "--model.warmup", "0"], capsys)
    assert "step 1: the weights of" in error
    assert list(Path("run").rglob("*.ckpt")) == []


def test_a_checkpoint_with_nan_is_not_scored(command: list[str], capsys: Error) -> None:
    main([*command, "--trainer.max_epochs", "1"])
    path = Path("run/checkpoints/best.ckpt")
    content = torch.load(path, weights_only=True)
    for weights in content["state_dict"].values():
        weights.mul_(float("nan")) if weights.is_floating_point() else None
    torch.save(content, path)
    for stage in ("test", "validate", "predict"):
        error = refused([stage, "--ckpt_path", "run", *command[-6:]], capsys)
        assert "mood: the outputs of" in error
    assert not {"test", "validated"} & set(metrics())
    Path("texts.txt").write_text("good film\nbad\n")
    error = refused(["predict", "--ckpt_path", "run", "--input", "texts.txt"], capsys)
    assert "task 'mood': the outputs of 2 of 2 texts are not finite" in error
    for name in ("transformers", "mtl"):
        export = ["export", "--ckpt_path", "run", "--out", "exported", "--format", name]
        assert "the logits of the trained model are not finite" in refused(export, capsys)
    assert not Path("exported").exists()


def test_max_steps_alone_decides_the_length(command: list[str]) -> None:
    main([*command, "--trainer.max_steps", "23"])
    assert (metrics()["steps"], metrics()["epochs"]) == (23, 4)  # 6 steps are an epoch
    main([*command, "--out", "both", "--trainer.max_steps", "23", "--trainer.max_epochs", "2"])
    assert metrics("both")["steps"] == 12
    main([*command, "--out", "default"])
    assert (metrics("default")["steps"], metrics("default")["epochs"]) == (18, 3)


def test_results_of_a_test_are_removed_when_the_run_goes_on(command: list[str]) -> None:
    main([*command, "--trainer.max_epochs", "1"])
    main(["test", "--ckpt_path", "run", *command[-6:]])
    assert "test" in metrics()
    main(["fit", "--ckpt_path", "run", "--trainer.max_epochs", "2"])
    assert "test" not in metrics()
    assert metrics()["epochs"] == 2
    assert not Path("run/predictions").exists()


CHANGES = {
    "tasks": ["--tasks+={other}"],
    "backbone": ["--backbone", "{masked}"],
    "model": ["--model", "Joint"],
    "model.lr": ["--model.lr", "0.1"],
    "data": ["--data", "SequentialDataModule"],
    "data.batch_size": ["--data.batch_size", "4"],
    "seed_everything": ["--seed_everything", "1"],
}


def test_a_resumed_run_keeps_what_it_trains(
    command: list[str], task_files: list[Path], masked_backbone: str, capsys: Error
) -> None:
    main([*command, "--trainer.max_epochs", "1"])
    before = state("run")
    for name, change in CHANGES.items():
        words = [word.format(other=task_files[1], masked=masked_backbone) for word in change]
        error = refused(["fit", "--ckpt_path", "run", *words], capsys)
        assert f"but {name} differs" in error
        assert "--model.init_from run" in error
    error = refused(["fit", "--ckpt_path", "run/checkpoints/best.ckpt"], capsys)
    assert "no optimizer state" in error
    assert state("run") == before
    main(["fit", "--ckpt_path", "run", "--data.num_workers", "1", "--trainer.max_epochs", "2"])


EDITS = {
    "but model.lr differs: 5e-05 in run/checkpoints/last.ckpt, 0.001 in run/config.yaml": (
        "lr: 5.0e-05",
        "lr: 1.0e-03",
    ),
    "but tasks.mood.version differs": ("version: 1", "version: 2"),
    "run/config.yaml is incomplete: it has no 'save_every'": ("save_every", "not_written"),
}


def test_a_resumed_run_keeps_what_its_checkpoint_was_trained_with(
    command: list[str], data_root: Path, capsys: Error
) -> None:
    shutil.copytree(data_root / "mood", "moved/mood")
    main([*command, "--trainer.max_epochs", "1"])
    config, before = Path("run/config.yaml").read_text(), state("run")
    resume = ["fit", "--ckpt_path", "run", "--data.root", "moved", "--trainer.max_epochs", "2"]
    for message, edit in EDITS.items():
        assert edit[0] in config
        Path("run/config.yaml").write_text(config.replace(*edit))
        assert message in refused(resume, capsys)
    Path("run/config.yaml").unlink()
    assert "config.yaml of its run, but there is none" in refused(resume, capsys)
    Path("run/config.yaml").write_text(config)
    file = Path("moved/mood/train.csv")
    content = file.read_text()
    file.write_text(content + content.splitlines()[-1] + "\n")
    changed = "task 'mood': moved/mood/train.csv has changed since the run was started"
    assert changed in refused(resume, capsys)
    file.write_text(content)
    assert state("run") == before
    main(resume)
    assert metrics()["epochs"] == 2


def test_a_copy_of_a_run_continues_in_the_copy(command: list[str]) -> None:
    main([*command, "--trainer.max_epochs", "1"])
    shutil.copytree("run", "copy")
    before = state("run")
    main(["fit", "--ckpt_path", "copy", "--trainer.max_epochs", "3"])
    main(["fit", "--ckpt_path", "run", "--out", "new", "--trainer.max_epochs", "3"])
    assert state("run") == before
    main(["fit", "--ckpt_path", "run", "--trainer.max_epochs", "3"])
    for folder in ("copy", "new"):
        assert metrics(folder)["validation"] == metrics()["validation"]
        for name in ("best", "last"):
            ours, theirs = (
                torch.load(f"{each}/checkpoints/{name}.ckpt", weights_only=True)["state_dict"]
                for each in (folder, "run")
            )
            assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert yaml.safe_load(Path("copy/config.yaml").read_text())["out"] == "copy"


LOGGERS = {
    "tensorboard": [],
    "none": ["--trainer.logger", "false"],
    "csv": ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "logs"],
    "added": ["--trainer.logger+=CSVLogger", "--trainer.logger.save_dir", "logs"],
}


@pytest.mark.parametrize("logger", LOGGERS)
def test_a_folder_is_the_same_whatever_the_logger(logger: str, command: list[str]) -> None:
    main([*command, "--trainer.max_epochs", "1", *LOGGERS[logger]])
    names = {path.name for path in Path("run").iterdir()}
    events = {name for name in names if name.startswith("events.out")}
    assert names - events - {"hparams.yaml"} == {"config.yaml", "metrics.json", "checkpoints"}
    assert bool(events) == (logger in ("tensorboard", "added"))
    assert not Path("lightning_logs").exists()


def test_a_monitor_that_is_not_logged_is_refused_before_the_training(
    command: list[str], capsys: Error
) -> None:
    stopping = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor"]
    error = refused([*command, *stopping, "val/mod/accuracy"], capsys)
    assert "EarlyStopping: monitor 'val/mod/accuracy' is not logged. Did you mean" in error
    assert not Path("run").exists()
    main([*command, "--trainer.max_epochs", "1", *stopping, "val/mood/accuracy"])


REFUSED = {
    "must be less than or equal to the number of the training batches": [
        "val_check_interval",
        "99",
    ],
    "Please increase the `limit_val_batches` argument": ["limit_val_batches", "0.1"],
    "the schedule of the learning rate depends on the number of steps": ["max_epochs", "-1"],
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_refused_length_of_a_run_leaves_no_folder(
    message: str, command: list[str], capsys: Error
) -> None:
    option, value = REFUSED[message]
    error = refused([*command, f"--trainer.{option}", value], capsys)
    assert message in error
    assert not Path("run").exists()
