import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtl.cli.export import export
from mtl.export.verification import asked_by, batch_of
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
from tests.export.runs import save_run

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
TEXTS = [
    ("the cat", "a dog sees it"),
    ("quick slow train and film " * 3, "food"),
    ("good", "bad"),
    ("red", "green blue"),
]

# A graph takes ten seconds or more to make.
EVERY = [
    pytest.param(CAMTL, {"max_length": 24}),
    pytest.param(PromptBasedFineTuning, {}),
    pytest.param(MultiHead, {"heads": "san", "losses": {"near": "cosine"}}, marks=pytest.mark.slow),
    pytest.param(MultiHead, {"heads": "san_mt_bert"}, marks=pytest.mark.slow),
    pytest.param(Separate, {}, marks=pytest.mark.slow),
    pytest.param(LoRA, {}, marks=pytest.mark.slow),
    pytest.param(LoRA, {"per_task": True}, marks=pytest.mark.slow),
    pytest.param(PALs, {}, marks=pytest.mark.slow),
    pytest.param(PALs, {"variant": "shared_and_task"}, marks=pytest.mark.slow),
    pytest.param(Adapters, {"per_task": True}, marks=pytest.mark.slow),
]


@torch.no_grad()
def assert_same(run: Path, folder: Path, outputs: list[str]) -> None:
    session = onnxruntime.InferenceSession(
        folder / "onnx/model.onnx", providers=["CPUExecutionProvider"]
    )
    assert [output.name for output in session.get_outputs()] == outputs
    trained = Predictor(run, device="cpu")
    for task in outputs:
        for count in (1, 2, 4):
            texts = [row[: len(trained.tasks[task].texts)] for row in TEXTS[:count]]
            batch = batch_of(trained, trained.tasks[task], texts)
            given = {each.name: batch.tokens[each.name].numpy() for each in session.get_inputs()}
            (theirs,) = session.run([task], given)
            assert np.abs(theirs - trained.module(batch)[task].numpy()).max() < 1e-4


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=pytest.mark.slow if name != "bert" else ()) for name in FAMILIES],
)
def test_all_heads_answer_in_one_graph(family: str, tasks: list[Task], tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, save_backbone(family, tmp_path / family))
    export(["--ckpt_path", str(run), "--out", str(tmp_path / "out"), "--task", "mood", "--onnx"])
    assert_same(run, tmp_path / "out", ["mood", "same", "near"])
    session = onnxruntime.InferenceSession(
        tmp_path / "out/onnx/model.onnx", providers=["CPUExecutionProvider"]
    )
    meaning = json.loads(session.get_modelmeta().custom_metadata_map["tasks"])
    assert meaning == {"mood": ["bad", "good"], "same": ["no", "maybe", "yes"], "near": [0, 5]}


@pytest.mark.parametrize(("method", "args"), EVERY)
def test_every_method_answers_all_tasks_in_one_graph(
    method: type[MultiTaskModule],
    args: dict[str, Any],
    tasks: list[Task],
    backbone: str,
    masked_backbone: str,
    tmp_path: Path,
) -> None:
    own = masked_backbone if method is PromptBasedFineTuning else backbone
    run = save_run(tmp_path / "run", method, tasks, own, **args)
    export(
        [
            "--ckpt_path",
            str(run),
            "--out",
            str(tmp_path / "out"),
            "--format",
            "mtl",
            "--task",
            "same",
            "--onnx",
        ]
    )
    assert_same(run, tmp_path / "out", ["mood", "same", "near"])


def test_rows_asked_by_several_tasks_pass_once(
    tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", Joint, tasks[:2], backbone, labels="union")
    trained = Predictor(run, device="cpu")
    batch = batch_of(trained, trained.tasks["mood"])
    passes: list[int] = []
    trained.module.encoder.backbone.register_forward_hook(lambda *_: passes.append(1))  # type: ignore[union-attr,operator]
    together = trained.module(asked_by(["mood", "same"], batch.tokens, batch.task_ids))
    assert passes == [1]
    torch.testing.assert_close(together["mood"], trained.module(batch)["mood"])
