"""`mtl merge` on tiny runs: its weights against the formulas, the commands that take the result."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

import mtl
from mtl.__main__ import main

CPU = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
TASKS = ("mood", "same", "near")
pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")


@pytest.fixture(scope="module")
def trained(
    task_files: list[Path], backbone: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a run of each task, and `separate`, one run of two of them."""
    folder = tmp_path_factory.mktemp("runs")
    options = ["--backbone", backbone, "--data.cache", str(folder / "cache"), *CPU]
    options += ["--trainer.max_epochs", "1", "--model.lr", "1e-3", "--data.max_length", "16"]
    names = {task: [file] for task, file in zip(TASKS, task_files, strict=True)}
    for name, files in {**names, "separate": task_files[1:]}.items():
        tasks = [f"--tasks+={file}" for file in files]
        method = ["--model", "Separate" if name == "separate" else "MultiHead"]
        main(["fit", *tasks, *method, *options, "--out", str(folder / name)])
    return folder


@pytest.fixture
def runs(trained: Path, in_tmp: Path) -> Path:
    """Copies of the runs, in the working directory."""
    shutil.copytree(trained, in_tmp, dirs_exist_ok=True)
    return in_tmp


def weights(run: str) -> dict[str, torch.Tensor]:
    return torch.load(f"{run}/checkpoints/best.ckpt", weights_only=True)["state_dict"]


def encoder(run: str, prefix: str = "encoder.backbone.") -> dict[str, torch.Tensor]:
    found = weights(run).items()
    return {name.removeprefix(prefix): each for name, each in found if name.startswith(prefix)}


def metrics(run: str) -> dict[str, Any]:
    return json.loads(Path(run, "metrics.json").read_text())


def merge(*arguments: str) -> None:
    main(["merge", *arguments, *CPU])


def test_a_merged_run_has_the_best_scale_and_is_taken_by_every_command(
    runs: Path, backbone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    merge(*TASKS, "--out", "merged", "--scale", "0", "0.3", "1.0")
    lines = list(csv.DictReader(Path("merged/coefficients.csv").read_text().splitlines()))
    assert [line["scale"] for line in lines] == ["0.0", "0.3", "1.0"]
    best = max(lines, key=lambda line: float(line["score"]))
    assert [line["used"] for line in lines] == [str(int(line is best)) for line in lines]
    for line in lines:
        mean = sum(float(line[task]) for task in TASKS) / len(TASKS)
        assert float(line["score"]) == pytest.approx(mean)
    assert Path("merged/coefficients.png").stat().st_size > 1000
    scale, results = float(best["scale"]), metrics("merged")
    assert results["merge"]["scale"] == scale
    assert results["parameters"]["trained"] == results["steps"] == 0
    start, merged = AutoModel.from_pretrained(backbone).state_dict(), encoder("merged")
    tuned = [encoder(run) for run in TASKS]
    for name, value in merged.items():
        change = sum(each[name].double() - start[name].double() for each in tuned)
        torch.testing.assert_close(value, (start[name] + scale * change).float())
    for task in TASKS:
        for name, value in weights(task).items():
            assert not name.startswith("heads.") or torch.equal(weights("merged")[name], value)

    main(["validate", "--ckpt_path", "merged", *CPU])
    validated = metrics("merged")["validated"]
    assert validated["mean"] == pytest.approx(results["validation"]["mean"], abs=1e-6)
    assert validated["mean"] == pytest.approx(float(best["score"]), abs=1e-6)
    main(["test", "--ckpt_path", "merged", *CPU])
    assert set(metrics("merged")["test"]["tasks"]) == set(TASKS)
    main(["predict", "--ckpt_path", "merged", *CPU])
    assert len(list(Path("merged/predictions/predict").glob("*.jsonl"))) == len(TASKS)
    main(["export", "--ckpt_path", "merged", "--task", "mood", "--out", "exported"])
    predicted = mtl.load("merged", device="cpu").predict([("good film", "bad film")], task="same")
    assert predicted[0].value in ("no", "maybe", "yes")

    capsys.readouterr()
    with pytest.raises(SystemExit):
        merge("merged", "mood", "--out", "again")
    assert "merged: one encoder for 3 tasks" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["fit", "--ckpt_path", "merged/checkpoints/best.ckpt", *CPU])
    assert "has no optimizer state" in capsys.readouterr().err
    fit = ["fit", "-c", "merged/config.yaml", "--model.init_from", "merged", "--out", "more"]
    main([*fit, "--trainer.fast_dev_run", "1", *CPU])


def test_separate_encoders_are_merged_like_those_of_single_runs(runs: Path) -> None:
    merge("mood", "separate", "--out", "merged", "--method", "mean")
    encoders = [encoder("mood")]
    encoders += [encoder("separate", f"encoders.{task}.backbone.") for task in ("same", "near")]
    for name, value in encoder("merged").items():
        torch.testing.assert_close(value, sum(each[name] for each in encoders) / 3)
    for name in ("heads.near.1.weight", "heads.same.1.bias"):
        assert torch.equal(weights("merged")[name], weights("separate")[name])
    assert len(metrics("merged")["merge"]["candidates"]) == 1


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_densities_and_scales_are_combined(runs: Path, method: str) -> None:
    options = ["--density", "0.2", "1", "--scale", "0.5", "1"]
    merge("mood", "near", "--out", "merged", "--method", method, *options)
    candidates = metrics("merged")["merge"]["candidates"]
    pairs = [(each["density"], each["scale"]) for each in candidates]
    assert pairs == [(0.2, 0.5), (0.2, 1.0), (1.0, 0.5), (1.0, 1.0)]


Change = Callable[[dict[str, Any]], None]


def edited(run: str, change: Change) -> None:
    """Changes the checkpoint of a run."""
    path = Path(run, "checkpoints/best.ckpt")
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def method(**arguments: Any) -> Change:
    return lambda content: content["hyper_parameters"].update(arguments)


def data(**arguments: Any) -> Change:
    return lambda content: content["datamodule_hyper_parameters"].update(arguments)


def longer_embeddings(content: dict[str, Any]) -> None:
    name = "encoder.backbone.embeddings.position_embeddings.weight"
    content["state_dict"][name] = torch.zeros(3, 32)


REFUSALS: list[tuple[Change, str]] = [
    (method(backbone="other"), "mood and near differ in --backbone: "),
    (method(pooling="mean"), "mood and near differ in --model.pooling: cls and mean; merge runs"),
    (
        method(head={"class_path": "Linear", "init_args": {"hidden_layers": 1}}),
        "mood and near differ in --model.head: ",
    ),
    (data(max_length=32), "mood and near differ in --data.max_length: 16 and 32; merge runs"),
    (data(holdout=0.1), "mood and near differ in --data.holdout: 0.0 and 0.1; merge runs"),
    (method(_class_path="mtl.methods.pals.PALs"), "near: the method PALs does not train a plain"),
    (method(init_from="runs/first"), "near: started from runs/first (--model.init_from), but"),
    (longer_embeddings, "near: its encoder is not that of --backbone "),
]


@pytest.mark.parametrize(("change", "message"), REFUSALS, ids=[each[1] for each in REFUSALS])
def test_runs_that_do_not_fit_together_are_refused(
    runs: Path, capsys: pytest.CaptureFixture[str], change: Change, message: str
) -> None:
    edited("near", change)
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        merge("mood", "near", "--out", "merged")
    assert done.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("merged").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("mood separate same", "separate and same have the same task 'same'; merge runs of"),
        ("mood", "mood: merging needs two tasks or more, but got only 'mood'; name more runs"),
        ("mood unfinished", "unfinished: not the folder of a finished run"),
        ("mood near --method mean --scale 1", "--scale: mean has no scale; omit --scale"),
        ("mood near --density 0.5", "--density: task_arithmetic has no density"),
        ("mood near --seed 1", "--seed: task_arithmetic draws nothing at random; omit --seed"),
        ("mood near --method ties --density 0", "'0' is not a share above 0 and up to 1"),
        ("mood near --scale inf", "'inf' is not a factor; give a number such as 0.3"),
        ("mood near --data.max_length 9", "unknown option --data.max_length."),
        ("mood near --scales 1", "unknown option --scales. Did you mean --scale?"),
    ],
)
def test_what_cannot_be_merged_is_refused(
    runs: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    shutil.copytree("near", "unfinished")
    Path("unfinished/metrics.json").unlink()
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        merge(*arguments.split(), "--out", "merged")
    assert done.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("merged").exists()
