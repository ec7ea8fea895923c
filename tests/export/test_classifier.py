import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
)

from mtl.errors import UserError
from mtl.export.classifier import build_classifier
from mtl.export.extraction import ClassifierParts, LinearWeights, extract_classifier
from mtl.export.formats import transformers_format
from mtl.export.verification import sample_batch
from mtl.inference.predictor import Predictor
from mtl.methods import (
    CAMTL,
    Adapters,
    DomainAdversarial,
    Joint,
    LoRA,
    MetaFineTuning,
    MTLLoRA,
    MultiHead,
    MultiTaskModule,
    PALs,
    Separate,
)
from mtl.modules.family_table import FAMILIES as TABLE
from mtl.modules.family_table import ClassifierLayout
from mtl.tasks import Task
from tests.conftest import FAMILIES, save_backbone
from tests.export.runs import SAN_HEADS, export, hidden_layers, save_run
from tests.families import small_config


@torch.no_grad()
def assert_same_logits(run: Path, task: str, folder: Path) -> None:
    """The directory, loaded by transformers alone, gives the logits of the run."""
    predictor = Predictor(run, device="cpu")
    texts = [
        ("the cat sees it", "a dog"),
        ("good", "quick slow train and blue film"),
        ("bad food was red " * 9, "green"),
    ]
    examples = [row[: len(predictor.tasks[task].texts)] for row in texts]
    ours = predictor.module(sample_batch(predictor, predictor.tasks[task], examples))[task]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(
        *map(list, zip(*examples, strict=True)), truncation=True, padding=True, return_tensors="pt"
    )
    theirs = AutoModelForSequenceClassification.from_pretrained(folder)(**tokens).logits
    torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=2e-6)


def parts_of(
    config: PretrainedConfig, weights: dict[str, Tensor], pooling: Any, weight: Tensor, bias: Tensor
) -> ClassifierParts:
    head = [LinearWeights(weight, bias)]
    labels = ["no", "maybe", "yes"]
    return ClassifierParts(config, weights, pooling, head, "single_label_classification", labels)


FITTING = [(family, "cls") for family in FAMILIES] + [
    ("bert", "pooler"),
    ("roberta", "pooler"),
    ("modernbert", "mean"),
    ("qwen3", "last"),
]


@pytest.mark.parametrize(("family", "pooling"), FITTING)
def test_the_export_of_every_model_family_gives_the_logits_of_the_run(
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
        assert_same_logits(run, task.name, export(run, tmp_path / task.name, "--task", task.name))


LAYOUTS = [
    (problem, name, pooling, layout)
    for name, each in TABLE.items()
    for problem, layout in {
        "single_label_classification": each.classifier,
        "multiple_choice": each.choice,
    }.items()
    if layout is not None
    for pooling in (*layout.reads, *(["pooler"] if each.pooler else []))
]


@pytest.mark.parametrize(("problem", "name", "pooling", "layout"), LAYOUTS)
def test_the_classifier_of_every_layout_computes_w_x_plus_b(
    problem: Any, name: str, pooling: Any, layout: ClassifierLayout
) -> None:
    """The classes of transformers, on texts with and without padding."""
    config = small_config(name)
    torch.manual_seed(0)
    optional = {"add_pooling_layer": pooling == "pooler"} if TABLE[name].pooler else {}
    encoder = AutoModel.from_config(config, **optional).eval()
    is_choice = problem == "multiple_choice"
    outputs = 1 if is_choice else 3
    weight, bias = torch.randn(outputs, 16), torch.randn(outputs) * layout.bias
    parts = parts_of(config, encoder.state_dict(), pooling, weight, bias)
    model = build_classifier(parts._replace(problem_type=problem))
    ids, mask = torch.randint(5, 40, (4, 9)), torch.ones(4, 9, dtype=torch.long)
    ids[1:, 6:], mask[1:, 6:] = 0, 0
    with torch.no_grad():
        output = encoder.double()(ids, attention_mask=mask)
        states = output.last_hidden_state
        pooled = {
            "pooler": lambda: output.pooler_output,
            "cls": lambda: states[:, 0],
            "mean": lambda: (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True),
            "last": lambda: states[torch.arange(4), mask.sum(1) - 1],
        }[pooling]()
        expected = pooled @ weight.double().T + bias
        if is_choice:  # two examples with two candidates
            ids, mask, expected = ids.view(2, 2, 9), mask.view(2, 2, 9), expected.view(2, 2)
        logits = model.double()(ids, attention_mask=mask).logits
        torch.testing.assert_close(logits, expected, rtol=1e-7, atol=3e-7)


METHODS: list[tuple[type[MultiTaskModule], dict[str, Any]]] = [
    (Separate, {}),
    (Joint, {"labels": "union"}),
    (DomainAdversarial, {}),
    (MetaFineTuning, {"scores": "none", "layers": [0, 1]}),
    (LoRA, {}),
    (LoRA, {"per_task": True, "targets": ["query", "dense"]}),
    (LoRA, {"per_task": True, "dora": True}),
    (MTLLoRA, {}),
]


@pytest.mark.parametrize("dora", [False, True])
def test_lora_in_a_decoder_is_merged_into_the_export(
    dora: bool, tasks: list[Task], tmp_path: Path
) -> None:
    """GPT-2's linear layers have transposed weights."""
    backbone = save_backbone("gpt2", tmp_path / "gpt2")
    run = save_run(tmp_path / "run", LoRA, tasks[:2], backbone, per_task=True, dora=dora)
    folder = export(run, tmp_path / "same", "--task", "same")
    assert_same_logits(run, "same", folder)
    assert AutoTokenizer.from_pretrained(folder)("the cat", "dog").input_ids.count(3) == 1


def test_a_decoder_whose_texts_end_with_padding_is_not_exported(
    tasks: list[Task], tmp_path: Path
) -> None:
    """Transformers' classifier would read the token before the end-of-text token."""
    backbone = save_backbone("qwen3", tmp_path / "qwen3")
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A [SEP] $B:1 [SEP]:1", special_tokens=[("[SEP]", 3)]
    )
    tokenizer.save_pretrained(backbone)
    run = save_run(tmp_path / "run", MultiHead, tasks[:1], backbone)
    with pytest.raises(UserError, match=r"ends texts with '\[SEP\]', the padding token"):
        export(run, tmp_path / "out")


@pytest.mark.parametrize(("method", "args"), METHODS)
def test_every_method_with_an_extractor_gives_the_logits_of_the_run(
    method: type[MultiTaskModule],
    args: dict[str, Any],
    tasks: list[Task],
    backbone: str,
    tmp_path: Path,
) -> None:
    run = save_run(tmp_path / "run", method, tasks[:2], backbone, **args)
    for task in tasks[:2]:
        assert_same_logits(run, task.name, export(run, tmp_path / task.name, "--task", task.name))


def test_a_hidden_layer_fits_a_class_that_has_one_with_relu(
    tasks: list[Task], tmp_path: Path
) -> None:
    backbone = save_backbone("distilbert", tmp_path / "distilbert")
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone, **hidden_layers(1))
    assert_same_logits(run, "same", export(run, tmp_path / "out", "--task", "same"))


def test_the_export_loads_without_mtl(tasks: list[Task], backbone: str, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    folders = [str(export(run, tmp_path / task.name, "--task", task.name)) for task in tasks]
    code = """
import json, sys
sys.modules["mtl"] = None
from transformers import AutoModelForSequenceClassification, AutoTokenizer
for folder in sys.argv[1:]:
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pair = ["the cat sees it", "a good film"][: 1 if "mood" in folder else 2]
    logits = model(**tokenizer(*pair, truncation=True, return_tensors="pt")).logits[0].tolist()
    config = model.config
    print(json.dumps([logits, config.id2label, config.problem_type, tokenizer.model_max_length]))
"""
    lines = subprocess.run(
        [sys.executable, "-c", code, *folders],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    ).stdout
    predictor = Predictor(run, device="cpu")
    kinds = ["single_label_classification", "single_label_classification", "regression"]
    labels = [{"0": "bad", "1": "good"}, {"0": "no", "1": "maybe", "2": "yes"}, {"0": "value"}]
    for task, line, kind, names in zip(tasks, lines.splitlines(), kinds, labels, strict=True):
        logits, *config = json.loads(line)
        texts = [("the cat sees it", "a good film")[: len(task.texts)]]
        assert logits == pytest.approx(
            predictor.module(sample_batch(predictor, task, texts))[task.name][0].tolist(),
            rel=1e-6,
            abs=2e-6,
        )
        assert config == [names, kind, 24]


def test_one_against_the_rest_is_exported_as_multi_label(
    tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone, losses={"same": "binary"})
    folder = export(run, tmp_path / "out", "--task", "same")
    assert_same_logits(run, "same", folder)
    assert (
        json.loads((folder / "config.json").read_text())["problem_type"]
        == "multi_label_classification"
    )
    assert "scores = logits.sigmoid()" in (folder / "README.md").read_text()


class Variant(MultiHead):
    """A new method derived from an exportable one; its `forward` may compute anything."""


UNSUPPORTED: list[tuple[type[MultiTaskModule], str]] = [
    (Variant, "no export is defined for Variant"),
    (CAMTL, "its encoder layers are conditioned on the task"),
    (Adapters, "its encoder has adapter layers"),
    (PALs, "its encoder has projected attention layers"),
]


@pytest.mark.parametrize(("method", "reason"), UNSUPPORTED)
def test_a_method_without_an_extractor_is_rejected_with_the_reason(
    method: type[MultiTaskModule], reason: str, tasks: list[Task], backbone: str
) -> None:
    module = method(tasks=tasks, backbone=backbone)
    assert transformers_format(module) is None
    with pytest.raises(UserError) as rejected:
        extract_classifier(module, tasks[0])
    name = method.__name__
    assert f"{name} cannot be exported for transformers: {reason}" in str(rejected.value)
    assert "--format mtl" in str(rejected.value)


REJECTED: list[tuple[str, dict[str, Any], str]] = [
    (
        "bert",
        {"pooling": "mean"},
        "reads the first token, but this model was trained with the mean over tokens; train with "
        "--model.pooling cls",
    ),
    ("bert", hidden_layers(1), "cannot hold a head with 1 hidden"),
    ("modernbert", hidden_layers(2), "cannot hold a head with 2 hidden"),
    ("bert", SAN_HEADS, "the head of task 'same' is a SAN"),
    (
        "bert",
        {"losses": {"same": "ordinal"}},
        "trained with the loss Ordinal, whose logits are not one per class",
    ),
    ("bert", {"losses": {"near": "cosine"}}, "the head of task 'near' is a CosineHead"),
]


@pytest.mark.parametrize(("family", "args", "message"), REJECTED)
def test_a_model_that_fits_no_class_is_rejected_with_an_alternative(
    family: str, args: dict[str, Any], message: str, tasks: list[Task], tmp_path: Path
) -> None:
    run = save_run(
        tmp_path / "run", MultiHead, tasks, save_backbone(family, tmp_path / family), **args
    )
    predictor = Predictor(run, device="cpu")
    task = predictor.tasks["near" if "near" in args.get("losses", {}) else "same"]
    with pytest.raises(UserError, match=message) as rejected:
        build_classifier(extract_classifier(predictor.module, task))
    assert "--format mtl" in str(rejected.value)


def test_more_classes_than_the_layer_can_hold_are_rejected(tmp_path: Path) -> None:
    task = Task(name="many", texts=["text"], classes=[f"class {place}" for place in range(20)])
    run = save_run(
        tmp_path / "run", MultiHead, [task], save_backbone("distilbert", tmp_path / "distilbert")
    )
    predictor = Predictor(run, device="cpu")
    with pytest.raises(UserError, match="20 classes are too many for a layer of width 32"):
        build_classifier(extract_classifier(predictor.module, task))


# What the classes of transformers compute after the encoder: states, shape (examples, 1, H), to
# logits.
AFTER_ENCODER: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "bert": lambda model, states: model.classifier(model.bert.pooler(states)),
    "electra": lambda model, states: model.classifier(states),
    "distilbert": lambda model, states: model.classifier(model.pre_classifier(states[:, 0]).relu()),
    "modernbert": lambda model, states: model.classifier(model.head(states[:, 0])),
}


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("family", AFTER_ENCODER)
def test_the_additional_layer_changes_logits_by_rounding_only(
    family: str, scale: float, tmp_path: Path
) -> None:
    """Compares every kind of layer with W x + b in double precision, for logits of all sizes."""
    config = AutoConfig.from_pretrained(save_backbone(family, tmp_path))
    torch.manual_seed(0)
    states, weight, bias = (
        torch.randn(500, 1, 32),
        scale * torch.randn(3, 32),
        scale * torch.randn(3),
    )
    model = build_classifier(parts_of(config, {}, "cls", weight, bias))
    expected = states[:, 0].double() @ weight.double().T + bias.double()
    with torch.no_grad():
        torch.testing.assert_close(
            AFTER_ENCODER[family](model, states).double(), expected, rtol=1e-6, atol=3e-6 * scale
        )
