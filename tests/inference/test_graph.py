"""The graph of an export answers as the method in PyTorch does."""

from pathlib import Path
from typing import Any

import pytest
import torch

import mtl
from mtl.errors import UserError
from mtl.inference.predictor import Predictor
from mtl.methods import LoRA, MultiHead, MultiTaskModule
from mtl.tasks import Task
from tests.export.runs import export, save_run
from tests.export.test_token_classifier import make_tasks

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

# Long and short ones, which PyTorch encodes in several passes.
TEXTS = ["good", "the red cat sees a dog", "bad food was red " * 9, "slow train"]
PAIRS = [("a cat", "the dog likes " * 8), ("good film", "bad film")]


def difference(first: Any, second: Any) -> float:
    """The largest difference between two lists of predictions."""
    values = [
        torch.tensor([list(each.probabilities.values()) if each.probabilities else [each.value]])
        for each in (*first, *second)
    ]
    return float((torch.cat(values[: len(first)]) - torch.cat(values[len(first) :])).abs().max())


@pytest.mark.parametrize(("method", "args"), [(MultiHead, {}), (LoRA, {"per_task": True})])
def test_all_tasks_are_answered_by_the_graph(
    method: type[MultiTaskModule],
    args: dict[str, Any],
    tasks: list[Task],
    backbone: str,
    tmp_path: Path,
) -> None:
    run = save_run(tmp_path / "run", method, tasks, backbone, **args)
    folder = export(run, tmp_path / "out", "--format", "mtl", "--onnx")
    trained, graph = mtl.load(run, "cpu"), mtl.load(folder, runtime="onnx")
    assert not sum(weight.numel() for weight in graph.module.parameters())
    for name, texts in (("mood", TEXTS), ("same", PAIRS), ("near", PAIRS)):
        # Batches of two, which hold texts of different lengths.
        expected = trained.predict(texts, task=name, batch_size=2)
        assert difference(graph.predict(texts, task=name, batch_size=2), expected) < 1e-4
    columns = {"mood": (0,), "same": (0, 1), "near": (0, 1)}
    together = trained.engine(columns)(PAIRS)
    for name, outputs in graph.engine(columns)(PAIRS).items():
        torch.testing.assert_close(outputs, together[name], atol=1e-4, rtol=0)


def test_the_graph_labels_words_and_subtracts_tuned_thresholds_once(
    backbone: str, tmp_path: Path
) -> None:
    topics = {"name": "topics", "texts": ["words"], "classes": ["a", "b"], "labels": "topics"}
    several = Task.read({**topics, "thresholds": "tuned"})
    run = save_run(tmp_path / "run", MultiHead, [*make_tasks(), several], backbone)
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    checkpoint["state_dict"]["thresholds.log_odds/topics"] += torch.tensor([0.5, -1.0])
    torch.save(checkpoint, run / "checkpoints" / "best.ckpt")
    folder = export(run, tmp_path / "out", "--format", "mtl", "--onnx")
    trained, graph = mtl.load(run, "cpu"), mtl.load(folder, runtime="onnx")
    expected = trained.predict(TEXTS, task="topics")
    assert difference(graph.predict(TEXTS, task="topics"), expected) < 1e-4
    spans, same = (each.predict(TEXTS, task="tags") for each in (trained, graph))
    for ours, theirs in zip(same, spans, strict=True):
        assert [{**span, "probability": 0} for span in ours.value] == [
            {**span, "probability": 0} for span in theirs.value
        ]


def test_a_graph_that_cannot_be_used_is_refused_with_the_remedy(
    tasks: list[Task], backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    with pytest.raises(UserError, match=r"has no onnx/model_int8\.onnx; write it with .* --int8"):
        Predictor(run, runtime="int8")
    (run / "onnx").mkdir()
    (run / "onnx/model.onnx").touch()
    with pytest.raises(UserError, match="--runtime onnx runs on the CPU; omit --device cuda:0"):
        Predictor(run, "cuda:0", "onnx")
    monkeypatch.setattr("mtl.inference.graph.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"needs onnxruntime: pip install 'mtl-text\[onnx\]'"):
        Predictor(run, runtime="onnx")
