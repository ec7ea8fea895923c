from pathlib import Path

import pytest
import torch

from mtl.__main__ import main

QUICK = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]


def fit(files: list[Path], backbone: str, out: str, *more: str) -> None:
    words = ["fit", *[f"--tasks+={file}" for file in files], "--backbone", backbone, "--out", out, "--data.batch_size", "8"]
    main([*words, "--data.max_length", "16", "--trainer.max_epochs", "1", *QUICK, *more])


def weights(out: str) -> dict[str, torch.Tensor]:
    return torch.load(f"{out}/checkpoints/last.ckpt", weights_only=True)["state_dict"]  # type: ignore[no-any-return]


def test_the_second_stage_starts_from_the_shared_model(
    task_files: list[Path], backbone: str, in_tmp: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(task_files, backbone, "shared", "--model.lr", "1e-2")
    # Without a step to speak of, what was loaded is what is saved.
    fit(task_files[:1], backbone, "one", "--model.init_from", "shared", "--model.lr", "1e-30")
    theirs = torch.load("shared/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    for name, value in weights("one").items():
        torch.testing.assert_close(value, theirs[name], atol=1e-6, rtol=0)
    fit(task_files[:1], backbone, "other", "--model.init_from", "shared", "--model", "Joint", "--model.lr", "1e-30")
    assert "starting anew: head.1" in caplog.text


def test_a_resumed_or_tested_run_needs_no_other(task_files: list[Path], backbone: str, in_tmp: Path) -> None:
    fit(task_files, backbone, "shared")
    fit(task_files[:1], backbone, "one", "--model.init_from", "shared")
    Path("shared").rename("gone")
    main(["test", "--ckpt_path", "one", *QUICK])
    main(["fit", "--ckpt_path", "one", "--trainer.max_epochs", "2", *QUICK])


def test_a_checkpoint_of_another_backbone_is_refused(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run/checkpoints").mkdir(parents=True)
    torch.save({"state_dict": {"encoder.other": torch.zeros(1)}}, "run/checkpoints/best.ckpt")
    with pytest.raises(SystemExit):
        fit(task_files, backbone, "one", "--model.init_from", "run")
    assert "no weight of run/checkpoints/best.ckpt fits this model's encoder" in capsys.readouterr().err
