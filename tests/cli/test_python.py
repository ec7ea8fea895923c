"""`mtl.fit`: a training from Python."""

from pathlib import Path

import pytest

import mtl
from mtl.errors import UserError

QUICK = ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1", "--data.max_length", "16"]


def test_fit_returns_the_trained_model(task_files: list[Path], backbone: str, in_tmp: Path) -> None:
    model = mtl.fit(task_files[:1], ["methods/joint"], backbone, "runs/one", QUICK)
    [prediction] = model.predict(["a good film"], task="mood")
    assert prediction.value in ("bad", "good")
    assert Path("runs/one/checkpoints/best.ckpt").exists()
    assert model.metrics["validation"]["tasks"]["mood"]["examples"]


def test_a_mistake_is_an_exception_that_says_what_to_do(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    with pytest.raises(UserError, match="Did you mean --trainer.max_epochs"):
        mtl.fit(task_files, backbone=backbone, options=["--trainer.max_epoch", "1"])
    assert not Path("runs").exists()
