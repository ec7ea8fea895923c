import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from mtl.__main__ import main
from mtl.errors import UserError
from mtl.export.classifier import LAYOUTS, classifier
from mtl.export.extraction import Parts, parts
from mtl.export.verification import batch_of
from mtl.inference.predictor import Predictor
from mtl.methods import (
    DomainAdversarial,
    Joint,
    LoRA,
    MetaFineTuning,
    MultiHead,
    MultiTaskModule,
    Separate,
)
from mtl.modules.backbone import WITH_POOLER
from mtl.tasks import Task
from tests.conftest import FAMILIES, SMALL, save_backbone
from tests.export.runs import save_run


def exported(run: Path, task: str, out: Path, *more: str) -> Path:
    main(["export", "--ckpt_path", str(run), "--task", task, "--out", str(out), *more])
    return out


@torch.no_grad()
def assert_same(run: Path, task: str, folder: Path) -> None:
    """The directory's logits are those of the run, as transformers alone reads it."""
    trained = Predictor(run, device="cpu")
    texts = [
        ("the cat sees it", "a dog"),
        ("good", "quick slow train and blue film"),
        ("bad food was red " * 9, "green"),
    ]
    given = [row[: len(trained.tasks[task].texts)] for row in texts]
    ours = trained.module(batch_of(trained, trained.tasks[task], given))[task]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(
        *map(list, zip(*given, strict=True)), truncation=True, padding=True, return_tensors="pt"
    )
    theirs = AutoModelForSequenceClassification.from_pretrained(folder)(**tokens).logits
    torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=2e-6)


FITTING = [(family, "cls") for family in FAMILIES] + [
    ("bert", "pooler"),
    ("roberta", "pooler"),
    ("modernbert", "mean"),
]


@pytest.mark.parametrize(("family", "pooling"), FITTING)
def test_every_family_has_a_class_that_gives_the_runs_logits(
    family: str, pooling: str, tasks: list[Task], tmp_path: Path
) -> None:
    run = save_run(
        tmp_path / "run",
        MultiHead,
        tasks,
        save_backbone(family, tmp_path / family),
        pooling=pooling,
    )
    for task in tasks:
        assert_same(run, task.name, exported(run, task.name, tmp_path / task.name))


POOLERS = [family for family in LAYOUTS if family in WITH_POOLER]


@pytest.mark.parametrize(
    ("family", "pooling"),
    [(family, "cls") for family in LAYOUTS] + [(each, "pooler") for each in POOLERS],
)
def test_the_class_of_every_layout_computes_w_x_plus_b(family: str, pooling: Any) -> None:
    small = SMALL | {
        "vocab_size": 40,
        "max_position_embeddings": 40,
        "embedding_size": 32,
        "pad_token_id": 0,
    }
    if family == "distilbert":
        small |= {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48}
    config = AutoConfig.for_model(family, **small)
    torch.manual_seed(0)
    optional = {"add_pooling_layer": pooling == "pooler"} if family in WITH_POOLER else {}
    encoder = AutoModel.from_config(config, **optional).eval()
    weight, bias = torch.randn(3, 32), torch.randn(3)
    model = classifier(
        Parts(config, encoder.state_dict(), pooling, [(weight, bias)]), ["no", "maybe", "yes"]
    )
    ids = torch.randint(5, 40, (4, 9))
    with torch.no_grad():
        output = encoder.double()(ids)
        row = output.pooler_output if pooling == "pooler" else output.last_hidden_state[:, 0]
        torch.testing.assert_close(
            model.double()(ids).logits, row @ weight.double().T + bias, rtol=0, atol=1e-7
        )


METHODS: list[tuple[type[MultiTaskModule], dict[str, Any]]] = [
    (Separate, {}),
    (Joint, {"labels": "union"}),
    (DomainAdversarial, {}),
    (MetaFineTuning, {"scores": "none", "layers": [0, 1]}),
    (LoRA, {}),
    (LoRA, {"per_task": True, "targets": ["query", "dense"]}),
]


@pytest.mark.parametrize(("method", "args"), METHODS)
def test_methods_of_that_shape(
    method: type[MultiTaskModule],
    args: dict[str, Any],
    tasks: list[Task],
    backbone: str,
    tmp_path: Path,
) -> None:
    run = save_run(tmp_path / "run", method, tasks[:2], backbone, **args)
    for task in tasks[:2]:
        assert_same(run, task.name, exported(run, task.name, tmp_path / task.name))


def test_a_hidden_layer_fits_where_the_class_has_one_with_relu(
    tasks: list[Task], tmp_path: Path
) -> None:
    backbone = save_backbone("distilbert", tmp_path / "distilbert")
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone, hidden_layers=1)
    assert_same(run, "same", exported(run, "same", tmp_path / "out"))


def test_it_loads_where_mtl_is_not_installed(
    tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    folders = [str(exported(run, task.name, tmp_path / task.name)) for task in tasks]
    code = """
import json, sys
sys.modules["mtl"] = None
from transformers import AutoModelForSequenceClassification, AutoTokenizer
for folder in sys.argv[1:]:
    model, tokenizer = (cls.from_pretrained(folder) for cls in (AutoModelForSequenceClassification, AutoTokenizer))
    pair = ["the cat sees it", "a good film"][: 1 if "mood" in folder else 2]
    logits = model(**tokenizer(*pair, truncation=True, return_tensors="pt")).logits[0].tolist()
    print(json.dumps([logits, model.config.id2label, model.config.problem_type, tokenizer.model_max_length]))
"""
    lines = subprocess.run(
        [sys.executable, "-c", code, *folders],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    ).stdout
    trained = Predictor(run, device="cpu")
    kinds = ["single_label_classification", "single_label_classification", "regression"]
    labels = [{"0": "bad", "1": "good"}, {"0": "no", "1": "maybe", "2": "yes"}, {"0": "value"}]
    for task, line, kind, names in zip(tasks, lines.splitlines(), kinds, labels, strict=True):
        logits, *said = json.loads(line)
        texts = [("the cat sees it", "a good film")[: len(task.texts)]]
        assert logits == pytest.approx(
            trained.module(batch_of(trained, task, texts))[task.name][0].tolist(),
            rel=1e-6,
            abs=2e-6,
        )
        assert said == [names, kind, 24]


def test_one_against_the_rest_is_several_labels(
    tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone, losses={"same": "binary"})
    folder = exported(run, "same", tmp_path / "out")
    assert_same(run, "same", folder)
    assert (
        json.loads((folder / "config.json").read_text())["problem_type"]
        == "multi_label_classification"
    )


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "bert",
        {"pooling": "mean"},
        "reads the first token, and this model the mean over tokens; train with --model.pooling cls",
    ),
    ("bert", {"hidden_layers": 1}, "no place for 1 hidden layer"),
    ("modernbert", {"hidden_layers": 2}, "no place for 2 hidden layer"),
    ("bert", {"heads": "san"}, "the head of 'same' is a SAN"),
    ("bert", {"losses": {"same": "ordinal"}}, "those of the loss 'ordinal'"),
    ("bert", {"losses": {"near": "cosine"}}, "the head of 'near' is a CosineHead"),
]


@pytest.mark.parametrize(("family", "args", "message"), REFUSED)
def test_what_fits_no_class_is_refused_with_a_way_out(
    family: str, args: dict[str, Any], message: str, tasks: list[Task], tmp_path: Path
) -> None:
    run = save_run(
        tmp_path / "run", MultiHead, tasks, save_backbone(family, tmp_path / family), **args
    )
    trained = Predictor(run, device="cpu")
    task = trained.tasks["near" if "near" in args.get("losses", {}) else "same"]
    with pytest.raises(UserError, match=message) as refused:
        classifier(parts(trained.module, task), task.classes)
    assert "--format mtl" in str(refused.value)


def test_more_classes_than_the_layer_can_pass(tmp_path: Path) -> None:
    task = Task(name="many", texts=["text"], classes=[f"class {place}" for place in range(20)])
    run = save_run(
        tmp_path / "run", MultiHead, [task], save_backbone("distilbert", tmp_path / "distilbert")
    )
    trained = Predictor(run, device="cpu")
    with pytest.raises(UserError, match="20 classes are too many for a layer of width 32"):
        classifier(parts(trained.module, task), task.classes)


# What transformers' classes do after the encoder, written out: (rows, 1, H) to logits.
AFTER: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "bert": lambda model, states: model.classifier(model.bert.pooler(states)),
    "electra": lambda model, states: model.classifier(states),
    "distilbert": lambda model, states: model.classifier(model.pre_classifier(states[:, 0]).relu()),
    "modernbert": lambda model, states: model.classifier(model.head(states[:, 0])),
}


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("family", AFTER)
def test_the_layer_in_between_adds_no_more_than_rounding(
    family: str, scale: float, tmp_path: Path
) -> None:
    """tanh, gelu, relu, and a normalisation, against W x + b in double precision, for logits from small to large."""
    config = AutoConfig.from_pretrained(save_backbone(family, tmp_path))
    torch.manual_seed(0)
    states, weight, bias = (
        torch.randn(500, 1, 32),
        scale * torch.randn(3, 32),
        scale * torch.randn(3),
    )
    model = classifier(Parts(config, {}, "cls", [(weight, bias)]), ["no", "maybe", "yes"])
    expected = states[:, 0].double() @ weight.double().T + bias.double()
    with torch.no_grad():
        torch.testing.assert_close(
            AFTER[family](model, states).double(), expected, rtol=1e-6, atol=3e-6 * scale
        )
