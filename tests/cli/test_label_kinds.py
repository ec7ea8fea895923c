"""Several tasks on one text, from a short task file to predictions and an export."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import pipeline

import mtl
from mtl.__main__ import main
from mtl.balancing.separate_backward import flatten_gradients, slow_task_gradients
from tests.cli.test_lightning import QUICK
from tests.data.test_label_groups import write_messages


def fit(file: str | Path, backbone: str, out: str, *options: str, steps: int = 8) -> None:
    common = ["--backbone", backbone, "--data.batch_size", "8", "--data.max_length", "16"]
    limit = ["--trainer.max_steps", str(steps), "--out", out]
    main(["fit", f"--tasks+={file}", *common, *QUICK, *limit, *options])


def weights(out: str) -> dict[str, Any]:
    file = Path(out) / "checkpoints" / "last.ckpt"
    state: dict[str, Any] = torch.load(file, weights_only=True)["state_dict"]
    return state


@pytest.fixture
def messages(in_tmp: Path) -> Path:
    """The task file of a label group; the thresholds of its multi-label task are tuned."""
    file = write_messages(in_tmp)
    fields = yaml.safe_load(file.read_text())
    fields["tasks"]["tags"]["thresholds"] = "tuned"
    fields["tasks"]["tags"]["metrics"] = ["f1_micro", "f1_macro", "f1_samples", "auroc"]
    fields["tasks"]["topic"]["metrics"] = ["f1_macro", "balanced_accuracy"]
    file.write_text(yaml.safe_dump(fields, sort_keys=False))
    return file


def test_a_label_group_is_trained_tested_predicted_and_exported(
    messages: Path, backbone: str, caplog: pytest.LogCaptureFixture
) -> None:
    losses = "{topic: {class_weights: balanced, label_smoothing: 0.1}, tags: {name: focal}}"
    fit(messages, backbone, "run", "--model.losses", losses)
    assert "classes: billing 8 | delivery 8 | other 7" in caplog.text
    main(["test", "--ckpt_path", "run", *QUICK])
    shutil.copytree("run", "copy")
    main(["ensemble", "run", "copy", "--vote", "hard", "--out", "twice", *QUICK])
    scores, same = (json.loads(Path(f"{run}/metrics.json").read_text()) for run in ("run", "twice"))
    assert same["test"]["all_correct"] == scores["test"]["all_correct"] != {}
    for metric in ("f1_micro", "f1_macro", "f1_samples"):
        values = (each["test"]["tasks"]["tags"]["metrics"][metric] for each in (scores, same))
        assert next(values) == pytest.approx(next(values))
    results = scores["test"]["tasks"]
    assert set(results["tags"]["metrics"]) == {"f1_micro", "f1_macro", "f1_samples", "auroc"}
    lines = Path("run/predictions/test/tags.jsonl").read_text().splitlines()
    assert len(lines) == results["tags"]["examples"] == 10
    model = mtl.load("run")
    assert set(model.tasks) == {"topic", "urgency", "tags"}
    assert any(model.module.thresholds.of("tags") != 0)
    main(["export", "--ckpt_path", "run", "--task", "tags", "--out", "tags-model"])
    texts = ["the cat sees it", "a good film", "not very red"]
    ours = model.predict(texts, task="tags")
    theirs: Any = pipeline("text-classification", model="tags-model", top_k=None)
    assert theirs.model.config.problem_type == "multi_label_classification"
    for mine, answers in zip(ours, theirs(texts), strict=True):
        found = {answer["label"]: answer["score"] for answer in answers}
        assert found == pytest.approx(mine.probabilities, abs=1e-5)
        assert {name for name, score in found.items() if score >= 0.5} == set(mine.value)


@pytest.mark.filterwarnings("ignore:gradient surgery runs a backward pass for each task")
@pytest.mark.parametrize(
    "options",
    [
        ["-c", "sampling/mixed", "-c", "balancing/pcgrad"],
        ["-c", "methods/pals"],
        ["-c", "methods/ca_mtl"],
        ["--data", "LossProportionalDataModule"],
        ["--data", "UncertaintyDataModule", "--data.regression", "{urgency: 0.5, tags: 0.5}"],
        ["--data.label_groups", "false"],
        ["--data", "KShotDataModule", "--data.k", "2"],
    ],
    ids=lambda options: " ".join(options),
)
def test_methods_and_schemes_train_label_groups(
    options: list[str], messages: Path, backbone: str
) -> None:
    fit(messages, backbone, "run", *options, steps=3)
    tensors = [value for value in weights("run").values() if isinstance(value, torch.Tensor)]
    assert all(value.isfinite().all() for value in tensors)


@pytest.mark.filterwarnings("ignore:gradient surgery runs a backward pass for each task")
def test_surgery_over_a_group_equals_a_backward_pass_per_task(
    messages: Path, backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mtl.balancing.surgery import Surgery

    checked = []
    backward = Surgery.backward

    def compared(self: Any, loss: Any) -> None:
        losses = self._losses
        gradients = slow_task_gradients(losses, torch.ones_like(losses), self.shared)
        expected = torch.stack([flatten_gradients(each, self.shared) for each in gradients])
        backward(self, loss)
        total = torch.stack(list(self.gramians.values())).sum(0)
        torch.testing.assert_close(total, expected @ expected.t(), rtol=1e-4, atol=1e-5)
        combined = self.weights @ expected
        found = flatten_gradients([p.grad for p in self.shared.values()], self.shared)
        torch.testing.assert_close(found, combined, rtol=1e-4, atol=1e-5)
        checked.append(len(losses))

    monkeypatch.setattr(Surgery, "backward", compared)
    fit(messages, backbone, "run", "-c", "sampling/mixed", "-c", "balancing/pcgrad", steps=2)
    assert checked == [3, 3]
