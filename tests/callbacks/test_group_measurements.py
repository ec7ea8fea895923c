"""The callbacks that measure what groups gain: what they write, and that training is unchanged."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mtl.__main__ import main
from mtl.grouping.linearized import read_snapshot

CPU = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
MEASURING = [
    "--trainer.callbacks+=GradientSnapshots",
    *("--trainer.callbacks.at", "[0.5, 1.0]", "--trainer.callbacks.examples", "3"),
    *("--trainer.callbacks.dimension", "16"),
    "--trainer.callbacks+=TaskAffinity",
    *("--trainer.callbacks.every_n_steps", "1"),
]


def fit(task_files: list[Path], backbone: str, out: str, *options: str) -> None:
    tasks = [f"--tasks+={file}" for file in task_files]
    data = ["--data.max_length", "16", "--data.batch_size", "12", "--model.lr", "1e-3"]
    scheme = ["-c", "sampling/mixed", "--trainer.max_epochs", "1", "--out", out]
    main(["fit", *tasks, "--backbone", backbone, *scheme, *data, *CPU, *options])


def test_measuring_writes_gradients_and_affinities_and_trains_the_same_weights(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    fit(task_files, backbone, "plain")
    fit(task_files, backbone, "measured", *MEASURING)
    plain, measured = (
        torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for run in ("plain", "measured")
    )
    assert all(torch.equal(plain[name], value) for name, value in measured.items())

    first, last = sorted(Path("measured/grouping").glob("gradients-*.npz"))
    steps = json.loads(Path("measured/metrics.json").read_text())["steps"]
    assert [int(path.stem[-6:]) for path in (first, last)] == [-(-steps // 2), steps]
    snapshot = read_snapshot(last)
    for parts in snapshot:
        assert list(parts) == ["mood", "same", "near"]
        for examples in parts.values():
            assert examples.margins.shape == (3,) and examples.gradients.shape == (3, 16)
            assert np.isfinite(examples.margins).all() and examples.gradients.any()

    contents = json.loads(Path("measured/grouping/affinity.json").read_text())
    assert contents["steps"] == steps
    pairs = {(each["step of"], each["loss of"]): each["affinity"] for each in contents["pairs"]}
    assert len(pairs) == 3 * 3
    # A step along a task's own gradient reduces its loss.
    assert all(pairs[task, task] > 0 for task in ("mood", "same", "near"))


def test_methods_without_shared_parameters_are_refused(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        fit(task_files, backbone, "separate", "--model", "Separate", *MEASURING)
    assert "Separate has no trainable shared parameters" in capsys.readouterr().err
