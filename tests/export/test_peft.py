from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from mtl.errors import UserError
from mtl.export.verification import sample_batch
from mtl.inference.predictor import Predictor
from mtl.methods import LoRA, MultiHead
from mtl.tasks import Task
from tests.conftest import save_backbone
from tests.export.runs import export, save_run

# Of peft 0.21.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

MODELS: list[tuple[str, dict[str, Any]]] = [
    (
        "bert",
        {
            "per_task": True,
            "rslora": True,
            "alpha": 6.0,
            "lora_dropout": 0.3,
            "targets": r".*(query|output\.dense)",
            "rank_pattern": {"0.*query": 5},
        },
    ),
    ("modernbert", {"pooling": "mean"}),
    ("gpt2", {"per_task": True}),
    ("bert", {"per_task": True, "dora": True, "alpha": 6.0, "rank_pattern": {"0.*query": 5}}),
    ("gpt2", {"dora": True}),
]


@pytest.mark.parametrize(("family", "args"), MODELS)
def test_peft_gives_the_logits_of_the_run(
    family: str, args: dict[str, Any], tasks: list[Task], tmp_path: Path
) -> None:
    from peft import PeftModel

    backbone = save_backbone(family, tmp_path / family)
    run = save_run(tmp_path / "run", LoRA, tasks[:2], backbone, **args)
    folder = export(run, tmp_path / "out", "--task", "same", "--format", "peft")
    config = AutoConfig.from_pretrained(folder)
    base = AutoModelForSequenceClassification.from_pretrained(backbone, config=config)
    model: Any = PeftModel.from_pretrained(base, str(folder)).eval()
    texts = [("the cat sees it", "a dog"), ("good", "quick slow train and blue film")]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(*map(list, zip(*texts, strict=True)), padding=True, return_tensors="pt")
    predictor = Predictor(run, device="cpu")
    with torch.no_grad():
        ours = predictor.module(sample_batch(predictor, predictor.tasks["same"], texts))["same"]
        torch.testing.assert_close(model(**tokens).logits, ours, rtol=1e-5, atol=2e-6)
    assert "PeftModel.from_pretrained" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("method", "args", "message"),
    [
        (MultiHead, {}, "--format peft is for the method LoRA, not MultiHead"),
        (LoRA, {"freeze": False}, "--format peft: the encoder's weights are not those of "),
    ],
)
def test_a_run_without_a_frozen_backbone_is_no_adapter(
    method: Any, args: dict[str, Any], message: str, tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    run = save_run(in_tmp / "run", method, tasks[:1], backbone, **args)
    with pytest.raises(UserError, match=message):
        export(run, in_tmp / "out", "--format", "peft")
    assert not (in_tmp / "out").exists()
