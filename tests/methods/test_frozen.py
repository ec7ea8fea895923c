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
    arguments = [
        "fit",
        *[f"--tasks+={file}" for file in task_files],
        "-c",
        str(CONFIGS / "sampling/mixed.yaml"),
        "--out",
        "run",
    ]
    arguments += [
        "-c",
        str(CONFIGS / "methods/adapters_per_task.yaml"),
        "--backbone",
        backbone,
        *CPU,
    ]
    main([*arguments, "--trainer.max_epochs", "1", "--data.batch_size", "8"])
    return in_tmp / "run"


def read(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_checkpoint_contains_trained_weights_and_the_name_of_the_backbone(
    name: str, run: Path, backbone: str
) -> None:
    checkpoint = read(run / f"checkpoints/{name}.ckpt")
    assert {weight.partition(".")[0] for weight in checkpoint["state_dict"]} == {
        "adapters",
        "heads",
    }
    assert checkpoint["hyper_parameters"]["backbone"] == backbone


def test_the_number_of_trained_parameters_is_logged_and_recorded(run: Path) -> None:
    counts = json.loads((run / "metrics.json").read_text())["parameters"]
    assert 0 < counts["trained"] < counts["total"] / 2
    events = EventAccumulator(str(run))
    events.Reload()
    assert events.Scalars("parameters/trained")[0].value == counts["trained"]


def test_a_run_with_frozen_weights_can_be_validated_and_resumed(run: Path) -> None:
    before = json.loads((run / "metrics.json").read_text())["validation"]["mean"]
    main(["validate", "--ckpt_path", str(run), *CPU])
    assert json.loads((run / "metrics.json").read_text())["validated"]["mean"] == pytest.approx(
        before
    )
    (run / "metrics.json").unlink()
    main(["fit", "--ckpt_path", str(run), "--trainer.max_epochs", "2", *CPU])
    assert read(run / "checkpoints/last.ckpt")["epoch"] == 2


def test_another_run_can_be_initialized_from_it(
    run: Path, task_files: list[Path], backbone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "fit",
        f"--tasks+={task_files[0]}",
        "-c",
        str(CONFIGS / "methods/adapters_per_task.yaml"),
        "--backbone",
        backbone,
    ]
    main(
        [
            *arguments,
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
    one, two = read(run / "checkpoints/best.ckpt"), read(Path("other/checkpoints/last.ckpt"))
    for name, value in two["state_dict"].items():
        assert torch.equal(value, one["state_dict"][name])


def test_frozen_weights_that_came_from_another_run_are_saved(
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
    arguments = [
        "-c",
        str(CONFIGS / "methods/adapters.yaml"),
        "--model.init_from",
        "tuned",
        "--model.lr",
        "1e-3",
    ]
    main(["fit", *common, *arguments, "--out", "adapted"])
    tuned, adapted = (
        read(Path("tuned/checkpoints/best.ckpt")),
        read(Path("adapted/checkpoints/best.ckpt")),
    )
    name = "encoder.backbone.encoder.layer.0.output.dense.weight"
    assert torch.equal(tuned["state_dict"][name], adapted["state_dict"][name])
    before = json.loads(Path("adapted/metrics.json").read_text())["validation"]["mean"]
    main(["validate", "--ckpt_path", "adapted", *CPU])
    assert json.loads(Path("adapted/metrics.json").read_text())["validated"][
        "mean"
    ] == pytest.approx(before)


def test_a_changed_backbone_is_rejected(
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
def test_a_randomly_initialized_pooling_layer_is_saved(
    task_files: list[Path], masked_backbone: str, in_tmp: Path
) -> None:
    arguments = [
        "fit",
        f"--tasks+={task_files[0]}",
        "-c",
        str(CONFIGS / "methods/adapters.yaml"),
        "--backbone",
        masked_backbone,
    ]
    main(
        [*arguments, *CPU, "--model.pooling", "pooler", "--trainer.max_epochs", "1", "--out", "run"]
    )
    assert (
        "encoder.backbone.pooler.dense.weight"
        in read(Path("run/checkpoints/best.ckpt"))["state_dict"]
    )
    before = json.loads(Path("run/metrics.json").read_text())["validation"]["mean"]
    main(["validate", "--ckpt_path", "run", "--seed_everything", "7", *CPU])
    assert json.loads(Path("run/metrics.json").read_text())["validated"]["mean"] == pytest.approx(
        before
    )
