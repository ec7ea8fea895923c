"""Exports of token labels answer as the trained model does."""

from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from mtl.errors import UserError
from mtl.inference.layout import Layout
from mtl.inference.predictor import Predictor
from mtl.inference.writers import open_output
from mtl.methods import LoRA, MultiHead, MultiTaskModule, Separate
from mtl.tasks import Task
from tests.conftest import save_backbone
from tests.export.runs import export, hidden_layers, save_run

TEXTS = ["the red cat sees a dog", "good", "bad food was red " * 9]


def make_tasks(**fields: Any) -> list[Task]:
    tags = {"name": "tags", "tokens": "words", "classes": ["colour", "animal"], **fields}
    mood = {"name": "mood", "texts": ["text"], "classes": ["bad", "good"]}
    return [Task.read(mood), Task.read(tags)]


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "deberta", "distilbert"])
@pytest.mark.parametrize("cls", [MultiHead, Separate, LoRA])
def test_a_pipeline_of_transformers_finds_the_same_entities(
    family: str, cls: type[MultiTaskModule], in_tmp: Path
) -> None:
    backbone = save_backbone(family, in_tmp / "backbone")
    run = save_run(in_tmp / "run", cls, make_tasks(), backbone)
    folder = export(run, in_tmp / "out", "--task", "tags")
    assert "AutoModelForTokenClassification" not in (folder / "README.md").read_text().split("#")[0]
    label: Any = pipeline("token-classification", model=str(folder), aggregation_strategy="none")
    kind: Any = Predictor(run, device="cpu").tasks["tags"].kind
    predictions = Predictor(run, device="cpu").predict(TEXTS[:2], task="tags")
    for text, prediction in zip(TEXTS, predictions, strict=False):
        theirs = [kind.output_names[0]] * len(text.split())
        for token in label(text):
            theirs[token["index"] - 1] = token["entity"]
        found = kind.finder(kind.label_array([kind.label(theirs)]))
        starts = [text.split()[index] for index in found.starts.tolist()]
        assert [span["text"].split()[0] for span in prediction.value] == starts
        for span in prediction.value:
            assert text[span["start"] : span["end"]] == span["text"]


def test_what_transformers_cannot_compute_is_refused(in_tmp: Path, backbone: str) -> None:
    run = save_run(in_tmp / "run", MultiHead, make_tasks(window_overlap=2), backbone)
    with pytest.raises(UserError, match="window_overlap"):
        export(run, in_tmp / "out", "--task", "tags")
    run = save_run(in_tmp / "deep", MultiHead, make_tasks(), backbone, **hidden_layers(1))
    with pytest.raises(UserError, match="hidden layers"):
        export(run, in_tmp / "other", "--task", "tags")


def test_an_onnx_graph_computes_the_logits_of_every_token(in_tmp: Path, backbone: str) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run = save_run(in_tmp / "run", MultiHead, make_tasks(), backbone)
    folder = export(run, in_tmp / "out", "--format", "mtl", "--onnx")  # compares the outputs
    assert (folder / "onnx/model.onnx").is_file()
    again = Predictor(folder, device="cpu").predict(TEXTS, task="tags")
    assert again == Predictor(run, device="cpu").predict(TEXTS, task="tags")


def test_every_word_of_a_long_text_is_predicted_with_windows_only(
    in_tmp: Path, backbone: str
) -> None:
    long = " ".join(["the red cat sees a dog"] * 6)
    for overlap, expected in ((None, 22), (4, 36)):
        tasks = make_tasks(tags="plain", metrics=["token_accuracy"], window_overlap=overlap)
        run = save_run(in_tmp / f"run{overlap}", MultiHead, tasks, backbone)
        predictor = Predictor(run, device="cpu")
        engine = predictor.engine({"tags": (0,)})
        (outputs,) = engine([(long,)])["tags"]
        assert sum(any(values) for values in outputs.probabilities) == expected
        assert len(predictor.predict([long], task="tags")[0].value) == expected


def test_entities_are_written_as_spans(in_tmp: Path, backbone: str) -> None:
    run = save_run(in_tmp / "run", MultiHead, make_tasks(), backbone)
    predictor = Predictor(run, device="cpu")
    task = predictor.tasks["tags"]
    engine = predictor.engine({"tags": (0,)})
    for name in ("out.jsonl", "out.csv"):
        with open_output(name, Layout([task])) as writer:
            writer.write([0, 1], [{}, {}], engine([(TEXTS[0],), (TEXTS[1],)]))
        lines = Path(name).read_text().splitlines()
        assert len(lines) == (2 if name.endswith("jsonl") else 3)
        assert "start" in "".join(lines)
