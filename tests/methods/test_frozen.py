import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtl.__main__ import main

CONFIGS = Path(__file__).parents[2] / "configs"
CPU = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


@pytest.fixture
def run(task_files: list[Path], backbone: str, in_tmp: Path) -> Path:
    words = [
        "fit",
        *[f"--tasks+={file}" for file in task_files],
        "-c",
        str(CONFIGS / "sampling/mixed.yaml"),
        "--out",
        "run",
    ]
    words += ["-c", str(CONFIGS / "methods/adapters_per_task.yaml"), "--backbone", backbone, *CPU]
    main([*words, "--trainer.max_epochs", "1", "--data.batch_size", "8"])
    return in_tmp / "run"


def kept(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_checkpoint_holds_what_was_trained_and_names_the_rest(
    name: str, run: Path, backbone: str
) -> None:
    checkpoint = kept(run / f"checkpoints/{name}.ckpt")
    assert {weight.partition(".")[0] for weight in checkpoint["state_dict"]} == {
        "adapters",
        "heads",
    }
    assert checkpoint["hyper_parameters"]["backbone"] == backbone


def test_the_trained_share_is_logged_and_kept(run: Path) -> None:
    found = json.loads((run / "metrics.json").read_text())["parameters"]
    assert 0 < found["trained"] < found["total"] / 2
    events = EventAccumulator(str(run))
    events.Reload()
    assert events.Scalars("parameters/trained")[0].value == found["trained"]


def test_it_is_tested_and_gone_on_from(run: Path) -> None:
    before = json.loads((run / "metrics.json").read_text())["validation"]["mean"]
    main(["validate", "--ckpt_path", str(run), *CPU])
    assert json.loads((run / "metrics.json").read_text())["validated"]["mean"] == pytest.approx(
        before
    )
    (run / "metrics.json").unlink()
    main(["fit", "--ckpt_path", str(run), "--trainer.max_epochs", "2", *CPU])
    assert kept(run / "checkpoints/last.ckpt")["epoch"] == 2


def test_another_run_starts_from_it(
    run: Path, task_files: list[Path], backbone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "fit",
        f"--tasks+={task_files[0]}",
        "-c",
        str(CONFIGS / "methods/adapters_per_task.yaml"),
        "--backbone",
        backbone,
    ]
    main(
        [
            *words,
            *CPU,
            "--trainer.max_epochs",
            "1",
            "--model.lr",
            "0",
            "--model.init_from",
            str(run),
            "--out",
            "other",
        ]
    )
    one, two = kept(run / "checkpoints/best.ckpt"), kept(Path("other/checkpoints/last.ckpt"))
    for name, value in two["state_dict"].items():
        assert torch.equal(value, one["state_dict"][name])


def test_frozen_weights_of_another_run_stay_in_the_checkpoint(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    common = [
        *[f"--tasks+={file}" for file in task_files],
        "--backbone",
        backbone,
        *CPU,
        "--trainer.max_epochs",
        "1",
    ]
    main(["fit", *common, "--out", "tuned", "--model.lr", "1e-2"])
    words = [
        "-c",
        str(CONFIGS / "methods/adapters.yaml"),
        "--model.init_from",
        "tuned",
        "--model.lr",
        "1e-3",
    ]
    main(["fit", *common, *words, "--out", "adapted"])
    tuned, adapted = (
        kept(Path("tuned/checkpoints/best.ckpt")),
        kept(Path("adapted/checkpoints/best.ckpt")),
    )
    name = "encoder.backbone.encoder.layer.0.output.dense.weight"
    assert torch.equal(tuned["state_dict"][name], adapted["state_dict"][name])
    before = json.loads(Path("adapted/metrics.json").read_text())["validation"]["mean"]
    main(["validate", "--ckpt_path", "adapted", *CPU])
    assert json.loads(Path("adapted/metrics.json").read_text())["validated"][
        "mean"
    ] == pytest.approx(before)


def test_a_backbone_that_is_another_by_now_is_refused(
    run: Path, backbone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = Path(backbone) / "model.safetensors"
    before = weights.read_bytes()
    changed = load_file(weights)
    changed["encoder.layer.0.output.dense.bias"] += 1
    save_file(changed, weights, metadata={"format": "pt"})
    try:
        with pytest.raises(SystemExit):
            main(["validate", "--ckpt_path", str(run), *CPU])
    finally:
        weights.write_bytes(before)
    assert (
        "its weights are not those that the checkpoint was trained with" in capsys.readouterr().err
    )


@pytest.mark.filterwarnings("ignore:.*has no pooling layer")
def test_a_pooling_layer_that_started_at_random_is_kept(
    task_files: list[Path], masked_backbone: str, in_tmp: Path
) -> None:
    words = [
        "fit",
        f"--tasks+={task_files[0]}",
        "-c",
        str(CONFIGS / "methods/adapters.yaml"),
        "--backbone",
        masked_backbone,
    ]
    main([*words, *CPU, "--model.pooling", "pooler", "--trainer.max_epochs", "1", "--out", "run"])
    assert (
        "encoder.backbone.pooler.dense.weight"
        in kept(Path("run/checkpoints/best.ckpt"))["state_dict"]
    )
    before = json.loads(Path("run/metrics.json").read_text())["validation"]["mean"]
    main(["validate", "--ckpt_path", "run", "--seed_everything", "7", *CPU])
    assert json.loads(Path("run/metrics.json").read_text())["validated"]["mean"] == pytest.approx(
        before
    )
