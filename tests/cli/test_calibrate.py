"""`mtl calibrate` on a tiny run whose labels are partly noise."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torchmetrics.functional.classification import multiclass_calibration_error

import mtl
from mtl.__main__ import main
from mtl.cli.command import parse_arguments
from mtl.cli.export import add_arguments, run
from mtl.errors import UserError

CPU = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
TEXTS = ["the film was good", "the film was bad", "a cat sees a dog"]
pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")


@pytest.fixture(scope="module")
def trained(
    task_files: list[Path], backbone: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of `noisy`, two classes of which one label in four is wrong, and `near`, a number."""
    folder, draw = tmp_path_factory.mktemp("calibrate"), random.Random(1)
    (folder / "noisy").mkdir()
    for split, count in (("train", 60), ("validation", 80), ("test", 40)):
        lines = ["text,label"]
        for _ in range(count):
            word = draw.choice(["good", "bad"])
            label = word if draw.random() < 0.75 else draw.choice(["good", "bad"])
            lines.append(f"the {draw.choice(['cat', 'dog', 'film'])} was {word},{label}")
        (folder / "noisy" / f"{split}.csv").write_text("\n".join(lines) + "\n")
    fields = {"name": "noisy", "texts": ["text"], "classes": ["bad", "good"]}
    (folder / "noisy.yaml").write_text(yaml.safe_dump(fields | {"source": {"path": "noisy"}}))
    tasks = [f"--tasks+={file}" for file in (folder / "noisy.yaml", task_files[2])]
    options = ["--backbone", backbone, "--data.cache", str(folder / "cache"), *CPU]
    options += ["--trainer.max_steps", "60", "--model.lr", "1e-2", "--data.max_length", "16"]
    main(["fit", *tasks, *options, "--out", str(folder / "run")])
    return folder / "run"


@pytest.fixture
def run_folder(trained: Path, in_tmp: Path) -> Path:
    return Path(shutil.copytree(trained, in_tmp / "run"))


def probabilities(folder: Path) -> np.ndarray:
    predictions = mtl.load(folder, "cpu").predict(TEXTS, "noisy")
    return np.array([list((each.probabilities or {}).values()) for each in predictions])


def calibrate(folder: Path, *options: str) -> dict[str, Any]:
    main(["calibrate", str(folder), *options, *CPU])
    stored: dict[str, Any] = json.loads((folder / "calibration.json").read_text())
    return stored


def test_every_command_uses_the_temperature(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = probabilities(run_folder)
    stored = calibrate(run_folder)["tasks"]
    printed = capsys.readouterr().out
    assert "near: not calibrated, it is a task of kind regression" in printed
    assert "calibration error" in printed and list(stored) == ["noisy"]
    temperature = stored["noisy"]["temperature"]
    assert stored["noisy"]["examples"] == 80 and abs(temperature - 1) > 0.01
    assert stored["noisy"]["loss"][1] < stored["noisy"]["loss"][0]

    after = probabilities(run_folder)
    powers = before ** (1 / temperature)
    np.testing.assert_allclose(after, powers / powers.sum(-1, keepdims=True), atol=1e-5)
    assert (after.argmax(-1) == before.argmax(-1)).all()

    main(["test", "--ckpt_path", str(run_folder), *CPU])
    assert "calibration error" in capsys.readouterr().out
    lines = (run_folder / "predictions/test/noisy.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    outputs = torch.tensor([list(record["probabilities"].values()) for record in records])
    labels = torch.tensor([["bad", "good"].index(record["label"]) for record in records])
    tested = json.loads((run_folder / "metrics.json").read_text())["test"]["tasks"]
    expected = multiclass_calibration_error(outputs, labels, 2, 15, "l1")
    assert tested["noisy"]["calibration_error"] == pytest.approx(float(expected), abs=1e-5)
    assert "calibration_error" not in tested["near"]

    Path("in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    predict = ["--input", "in.jsonl", "--output", "out.jsonl", "--device", "cpu"]
    main(["predict", "--ckpt_path", str(run_folder), *predict])
    written = Path("out.jsonl").read_text().splitlines()
    rows = [json.loads(line)["noisy"]["probabilities"] for line in written]
    np.testing.assert_allclose([list(row.values()) for row in rows], after, atol=1e-5)

    export = ["--ckpt_path", str(run_folder), "--out", "exported", "--format", "mtl"]
    run(parse_arguments("export", export, add_arguments))
    np.testing.assert_allclose(probabilities(Path("exported")), after, atol=1e-5)
    # The same temperature again, not one on top of it.
    assert calibrate(run_folder)["tasks"]["noisy"]["temperature"] == pytest.approx(temperature)


def test_a_calibration_belongs_to_one_checkpoint(run_folder: Path) -> None:
    calibrate(run_folder, "--task", "noisy")
    last, best = (run_folder / "checkpoints" / name for name in ("last.ckpt", "best.ckpt"))
    assert mtl.load(last, "cpu").module.temperatures == {}
    content = torch.load(best, weights_only=True)
    torch.save(content | {"state_dict": {**content["state_dict"]}, "epoch": 7}, best)
    with pytest.raises(UserError, match=r"best\.ckpt has changed since it was calibrated"):
        mtl.load(run_folder, "cpu")
    (run_folder / "calibration.json").write_text("[]")
    with pytest.raises(UserError, match=r"calibration\.json: cannot be read"):
        mtl.load(run_folder, "cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "near"], "task 'near' cannot be calibrated: a temperature needs the"),
        (["--task", "nois"], "--task: unknown task 'nois'. Choose from: noisy, near."),
    ],
)
def test_tasks_that_cannot_be_calibrated_are_refused(
    run_folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        calibrate(run_folder, *arguments)
    assert message in capsys.readouterr().err
    assert not (run_folder / "calibration.json").exists()


def test_an_export_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mtl.json").write_text("{}")
    with pytest.raises(SystemExit):
        main(["calibrate", str(tmp_path)])
    assert "calibrate its run, then export it" in capsys.readouterr().err
