import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from mtl.export.verification import multi_task_batch, sample_batch
from mtl.inference.predictor import Predictor
from mtl.methods import (
    CAMTL,
    Adapters,
    Joint,
    LoRA,
    MultiHead,
    MultiTaskModule,
    PALs,
    PromptBasedFineTuning,
    Separate,
)
from mtl.tasks import Task
from tests.conftest import FAMILIES, save_backbone
from tests.export.runs import MT_BERT_SAN_HEADS, SAN_HEADS, export, save_run

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
TEXTS = [
    ("the cat", "a dog sees it"),
    ("quick slow train and film " * 3, "food"),
    ("good", "bad"),
    ("red", "green blue"),
]

# Exporting a graph takes ten seconds or more.
EVERY = [
    pytest.param(CAMTL, {"max_length": 24}),
    pytest.param(PromptBasedFineTuning, {}),
    pytest.param(MultiHead, {**SAN_HEADS, "losses": {"near": "cosine"}}, marks=pytest.mark.slow),
    pytest.param(MultiHead, MT_BERT_SAN_HEADS, marks=pytest.mark.slow),
    pytest.param(Separate, {}, marks=pytest.mark.slow),
    pytest.param(LoRA, {}, marks=pytest.mark.slow),
    pytest.param(LoRA, {"per_task": True}, marks=pytest.mark.slow),
    pytest.param(PALs, {}, marks=pytest.mark.slow),
    pytest.param(PALs, {"variant": "shared_and_task"}, marks=pytest.mark.slow),
    pytest.param(Adapters, {"per_task": True}, marks=pytest.mark.slow),
]


@torch.no_grad()
def assert_same_outputs(run: Path, folder: Path, outputs: list[str]) -> None:
    session = onnxruntime.InferenceSession(
        folder / "onnx/model.onnx", providers=["CPUExecutionProvider"]
    )
    assert [output.name for output in session.get_outputs()] == outputs
    predictor = Predictor(run, device="cpu")
    for task in outputs:
        for count in (1, 2, 4):
            texts = [row[: len(predictor.tasks[task].texts)] for row in TEXTS[:count]]
            batch = sample_batch(predictor, predictor.tasks[task], texts)
            inputs = {each.name: batch.tokens[each.name].numpy() for each in session.get_inputs()}
            (exported,) = session.run([task], inputs)
            assert np.abs(exported - predictor.module(batch)[task].numpy()).max() < 1e-4


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=pytest.mark.slow if name != "bert" else ()) for name in FAMILIES],
)
def test_the_graph_computes_all_heads_for_every_model_family(
    family: str, tasks: list[Task], tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, save_backbone(family, tmp_path / family))
    export(run, tmp_path / "out", "--task", "mood", "--onnx")
    assert_same_outputs(run, tmp_path / "out", ["mood", "same", "near"])
    session = onnxruntime.InferenceSession(
        tmp_path / "out/onnx/model.onnx", providers=["CPUExecutionProvider"]
    )
    classes_or_range = json.loads(session.get_modelmeta().custom_metadata_map["tasks"])
    assert classes_or_range == {
        "mood": ["bad", "good"],
        "same": ["no", "maybe", "yes"],
        "near": [0, 5],
    }


@pytest.mark.parametrize(("method", "args"), EVERY)
def test_the_graph_computes_all_tasks_for_every_method(
    method: type[MultiTaskModule],
    args: dict[str, Any],
    tasks: list[Task],
    backbone: str,
    masked_backbone: str,
    tmp_path: Path,
) -> None:
    name = masked_backbone if method is PromptBasedFineTuning else backbone
    run = save_run(tmp_path / "run", method, tasks, name, **args)
    export(run, tmp_path / "out", "--format", "mtl", "--task", "same", "--onnx")
    assert_same_outputs(run, tmp_path / "out", ["mood", "same", "near"])


def test_examples_of_several_tasks_pass_through_a_shared_encoder_once(
    tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", Joint, tasks[:2], backbone, labels="union")
    predictor = Predictor(run, device="cpu")
    batch = sample_batch(predictor, predictor.tasks["mood"])
    passes: list[int] = []
    encoder = cast(Joint, predictor.module).encoder
    encoder.backbone.register_forward_hook(lambda *_: passes.append(1))
    together = predictor.module(multi_task_batch(["mood", "same"], batch.tokens, batch.task_ids))
    assert passes == [1]
    torch.testing.assert_close(together["mood"], predictor.module(batch)["mood"])
