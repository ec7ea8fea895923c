from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mtl
from mtl.errors import UserError
from mtl.inference.predictor import Predictor
from mtl.methods import MultiHead
from mtl.tasks import Task
from tests.export.runs import save_run


@pytest.fixture
def predictor(tasks: list[Task], backbone: str, tmp_path: Path) -> Predictor:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    return mtl.load(run, device="cpu")


def test_predictions_have_a_value_and_the_probabilities_of_the_classes(
    predictor: Predictor,
) -> None:
    (prediction,) = predictor.predict(["good film"], task="mood")
    assert prediction.probabilities is not None
    assert list(prediction.probabilities) == ["bad", "good"]
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    best = max(prediction.probabilities, key=lambda name: (prediction.probabilities or {})[name])
    assert prediction.value == best
    (near,) = predictor.predict([("a cat", "a dog")], task="near")
    assert isinstance(near.value, float) and near.probabilities is None


def test_without_a_task_all_tasks_with_as_many_texts_are_predicted(predictor: Predictor) -> None:
    assert list(predictor.predict(["good"])) == ["mood"]
    assert list(predictor.predict([["a cat", "a dog"]])) == ["same", "near"]
    assert predictor.predict(["good"])["mood"] == predictor.predict(["good"], task="mood")
    assert predictor.predict([], task="mood") == []


@pytest.mark.parametrize(
    ("texts", "task", "message"),
    [
        (["good"], "mod", "unknown task 'mod'. Choose from: mood, same, near. Did you mean 'mood'"),
        ([("good", "bad")], "mood", "texts are pairs, but the model reads single texts for 'mood'"),
        (["good"], "same", "texts are single texts, but the model reads pairs for 'same'"),
        (["good", " "], "mood", r"texts\[1\] is empty"),
        (["good", None], None, r"texts\[1\] is empty"),
        ([("good", "")], None, r"texts\[0\]\[1\] is empty"),
        (["good", 5], None, r"texts\[1\] holds 5, which is neither a text nor a pair"),
        ([("good", 5)], None, r"texts\[0\]\[1\] holds 5, which is not text"),
        (["good", ("good", "bad")], None, r"texts\[1\] is a pair, but texts\[0\] is a single text"),
        ("good", "mood", "texts is a single string, 'good'; give a list"),
        (["\udcff"], "mood", r"texts\[0\] is not UTF-8"),
    ],
)
def test_texts_that_cannot_be_used_are_rejected(
    predictor: Predictor, texts: Any, task: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        predictor.predict(texts, task=task)


def test_a_device_that_does_not_exist_is_rejected(
    tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    with pytest.raises(UserError, match="device 'cup': unknown type of device"):
        mtl.load(run, device="cup")
    with pytest.raises(UserError, match="this machine has [0-9]+ GPUs"):
        mtl.load(run, device="cuda:99")


def test_a_folder_without_a_checkpoint_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UserError) as rejected:
        mtl.load(tmp_path)
    assert "not the folder of a run" in str(rejected.value)
    assert not str(rejected.value).startswith("--ckpt_path")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("heads.mood.1.weight"), "1 missing, such as heads.mood.1.w"),
        (lambda weights: weights.update(x=torch.zeros(1)), "1 unknown, such as x"),
        (
            lambda weights: weights.update({"heads.mood.1.bias": torch.zeros(7)}),
            "1 of another size, such as heads.mood.1.bias",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(
    change: Callable[[dict[str, torch.Tensor]], None],
    message: str,
    tasks: list[Task],
    backbone: str,
    tmp_path: Path,
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    checkpoint = run / "checkpoints" / "best.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    change(content["state_dict"])
    torch.save(content, checkpoint)
    with pytest.raises(UserError, match=f"best.ckpt: its weights do not fit .*{message}"):
        mtl.load(run, device="cpu")
