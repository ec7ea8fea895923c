"""Token labels in every method that supports them, in mixed batches with sentence tasks."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchjd.aggregation as aggregation
from torch import Tensor

from mtl.balancing import Equal, Surgery
from mtl.batch import Batch
from mtl.data import (
    KShotDataModule,
    MultiTaskDataModule,
    RoundRobinDataModule,
    SequentialDataModule,
    UncertaintyDataModule,
)
from mtl.data.checks import Example
from mtl.data.encoding import Plain
from mtl.errors import UserError
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
    TaskLayers,
)
from mtl.modules import SAN
from mtl.modules.backbone import load_tokenizer
from mtl.predictions import read_predictions, write_predictions
from mtl.tasks import Task, TokenLabels
from mtl.tasks.token_metrics import TOKEN_METRICS, example_counts
from tests.balancing.helpers import assert_combined, no_separate_passes, training_step
from tests.conftest import WORDS
from tests.methods.training import fit

METHODS: list[tuple[type[MultiTaskModule], dict[str, Any]]] = [
    (MultiHead, {}),
    (LoRA, {"per_task": True}),
    (Adapters, {"per_task": True}),
    (PALs, {}),
    (TaskLayers, {}),
    (CAMTL, {"max_length": 32}),
    (Separate, {}),
]
NAMED = pytest.mark.parametrize(("cls", "args"), METHODS, ids=[m.__name__ for m, _ in METHODS])


@pytest.fixture(scope="module")
def word_tasks(tmp_path_factory: pytest.TempPathFactory) -> list[Task]:
    """Colours (`I-` follows `B-` if two are neighbours) and animals; whether there is an animal."""
    folder, draw = tmp_path_factory.mktemp("words"), random.Random(0)
    for split, count in (("train", 48), ("validation", 12), ("test", 12)):
        rows = []
        for _ in range(count):
            words = draw.choices(WORDS, k=draw.randint(2, 12))
            colours = [word in ("red", "green", "blue") for word in words]
            tags = [
                ("I-colour" if index and colours[index - 1] else "B-colour")
                if colour
                else ("B-animal" if word in ("cat", "dog") else "O")
                for index, (word, colour) in enumerate(zip(words, colours, strict=True))
            ]
            animal = "yes" if "B-animal" in tags else "no"
            rows.append({"words": words, "text": " ".join(words), "tags": tags, "animal": animal})
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines)
    source = {"path": str(folder)}
    return [
        Task.read(
            {"name": "has", "texts": ["text"], "label": "animal", "classes": ["no", "yes"]}
            | {"source": source}
        ),
        Task.read(
            {"name": "tags", "tokens": "words", "label": "tags", "classes": ["colour", "animal"]}
            | {"metrics": ["entity_f1", "token_accuracy"], "source": source}
        ),
    ]


def make_data(
    cls: type[MultiTaskDataModule], tasks: list[Task], backbone: str, folder: Path, **args: Any
) -> Any:
    options = {"batch_size": 8, "max_length": 24, "cache": folder / "cache", **args}
    return cls(tasks=tasks, backbone=backbone, **options)


def kind_of(task: Task) -> TokenLabels:
    assert isinstance(task.kind, TokenLabels)
    return task.kind


def first_batch(data: Any) -> Batch:
    data.train_splits = data._open_training()
    return next(iter(data.train_dataloader()))


@NAMED
def test_a_mixed_batch_is_trained_and_evaluated(
    cls: type[MultiTaskModule],
    args: dict[str, Any],
    word_tasks: list[Task],
    backbone: str,
    in_tmp: Path,
) -> None:
    method = cls(tasks=word_tasks, backbone=backbone, lr=1e-2, **args)
    data = make_data(RoundRobinDataModule, word_tasks, backbone, in_tmp, mixed=True)
    trainer = fit(method, data, max_steps=4, limit_val_batches=0)
    trainer.test(method, data, verbose=False)
    predictions = method.predictions["tags"]
    assert predictions.labels.shape == predictions.outputs.shape[:2]
    counts = example_counts(
        kind_of(word_tasks[1]), predictions.outputs.numpy(), predictions.labels.numpy()
    )
    for name, value in method.results["tags"]["metrics"].items():
        assert value == pytest.approx(float(TOKEN_METRICS[name](counts.sum(0))))
    write_predictions(in_tmp / "tags.jsonl", predictions)
    again = read_predictions(in_tmp / "tags.jsonl", word_tasks[1])
    assert torch.equal(again.labels, predictions.labels)
    assert torch.equal(again.outputs, predictions.outputs)


def test_words_that_determine_their_tags_are_learned(
    word_tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    torch.manual_seed(0)
    method = MultiHead(tasks=word_tasks, backbone=backbone, lr=1e-2, schedule="constant")
    data = make_data(RoundRobinDataModule, word_tasks, backbone, in_tmp)
    trainer = fit(method, data, max_epochs=8, limit_val_batches=0)
    trainer.test(method, data, verbose=False)
    assert method.results["tags"]["metrics"]["token_accuracy"] > 0.9
    assert method.results["tags"]["metrics"]["entity_f1"] > 0.6


@pytest.mark.parametrize("mode", ["stored", "two_pass"])
@pytest.mark.parametrize(
    ("cls", "args"),
    [
        (MultiHead, {}),
        (LoRA, {"freeze": False}),
        (Adapters, {"freeze": False}),
        (PALs, {}),
        (CAMTL, {"max_length": 32}),
        (TaskLayers, {}),
    ],
    ids=["MultiHead", "LoRA", "Adapters", "PALs", "CAMTL", "TaskLayers"],
)
def test_one_backward_pass_gives_the_gradients_of_separate_passes(
    cls: type[MultiTaskModule],
    args: dict[str, Any],
    mode: Any,
    word_tasks: list[Task],
    backbone: str,
    in_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    balancer = Surgery(aggregation.UPGrad, mode=mode)
    method = cls(tasks=word_tasks, backbone=backbone, balancer=balancer, **args).eval()
    with torch.no_grad():  # no parameter stays at zero
        for parameter in method.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    method.balancer.on_fit_start(method, {})
    batch = first_batch(make_data(RoundRobinDataModule, word_tasks, backbone, in_tmp, mixed=True))
    assert len(batch.segments) == 2
    with no_separate_passes(monkeypatch):
        training_step(method, batch)
    assert_combined(method, batch)


def test_the_loss_is_the_mean_over_labelled_words(
    word_tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    method = MultiHead(tasks=word_tasks, backbone=backbone, balancer=Equal()).eval()
    batch = first_batch(make_data(RoundRobinDataModule, word_tasks, backbone, in_tmp, mixed=True))
    segment = next(each for each in batch.segments if each.task == "tags")
    with torch.no_grad():
        logits, loss = method(batch)["tags"], method.task_losses(batch)["tags"]
    words = batch.tokens["words"][segment.examples]
    losses = [
        -logits[example, position].log_softmax(-1)[segment.labels[example, position]]
        for example, position in (words > 0).nonzero().tolist()
    ]
    assert segment.denominator == len(losses)
    torch.testing.assert_close(loss, torch.stack(losses).mean())


def test_uncertain_sentences_have_the_highest_mean_entropy_of_their_words(
    word_tasks: list[Task], backbone: str, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = MultiHead(tasks=word_tasks, backbone=backbone)
    data = make_data(UncertaintyDataModule, word_tasks, backbone, in_tmp)
    seen: list[dict[str, Tensor]] = []
    select = data._most_uncertain

    def recorded(batch: Batch, scores: dict[str, Tensor], count: int) -> Tensor:
        seen.append(scores)
        return select(batch, scores, count)

    monkeypatch.setattr(data, "_most_uncertain", recorded)
    fit(method, data, max_steps=2, limit_val_batches=0)
    assert all(scores["tags"].shape == (8,) for scores in seen)
    assert all(0 < float(each) <= 1 for scores in seen for each in scores["tags"])


def test_k_shot_draws_k_entities_of_each_class(
    word_tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    for task in (word_tasks[1], replace(word_tasks[1], max_length=8, window_overlap=3)):
        train, selection = make_data(KShotDataModule, [task], backbone, in_tmp, k=3)._draw(task)
        for chosen in (train, selection):
            counts = kind_of(task).class_counts(chosen.labels)
            assert (counts >= 3).all()
            assert len(np.unique(chosen.numbers)) < 12
        assert not set(train.numbers.tolist()) & set(selection.numbers.tolist())
    with pytest.raises(UserError, match=r"class 'colour' has \d+ entities.*smaller --data.k"):
        make_data(KShotDataModule, word_tasks[1:], backbone, in_tmp, k=300)._draw(word_tasks[1])


@pytest.mark.parametrize(
    ("cls", "args"),
    [(Joint, {}), (PromptBasedFineTuning, {}), (MultiHead, {"head": SAN()})],
    ids=["Joint", "Prompt", "SAN"],
)
def test_methods_without_token_labels_refuse_them(
    cls: type[MultiTaskModule], args: dict[str, Any], word_tasks: list[Task], masked_backbone: str
) -> None:
    with pytest.raises(UserError, match=r"token label task"):
        cls(tasks=word_tasks[1:], backbone=masked_backbone, **args)


def test_long_texts_are_divided_into_windows(
    word_tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    kind_fields = {"window_overlap": 3, "max_length": 8, "metrics": ["token_accuracy"]}
    tasks = [_with(word_tasks[1], **kind_fields), _with(word_tasks[1], name="cut", max_length=8)]
    whole, cut = tasks
    method = MultiHead(tasks=tasks, backbone=backbone)
    data = make_data(SequentialDataModule, tasks, backbone, in_tmp)
    fit(method, data, max_steps=2, limit_val_batches=0).test(method, data, verbose=False)
    lines = Path(f"{whole.source.path}/test.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    predictions = method.predictions["tags"]
    assert predictions.ids.tolist() == list(range(12))
    for row, labels in zip(rows, predictions.labels.tolist(), strict=True):
        assert whole.kind.label_value(labels) == row["tags"]
    lost = sum(max(0, len(row["words"]) - 6) for row in rows)
    assert lost > 0
    assert data.eval_splits[0].report.cut_labels == 0
    assert data.eval_splits[1].report.cut_labels == lost
    assert f"{lost} labels of words beyond it" in data.opener.summary(
        "cut", cut, data.eval_splits[1]
    )


def _with(task: Task, **fields: Any) -> Task:
    return replace(task, **fields)


def test_the_first_sub_token_of_a_word_is_labelled_or_all_are(backbone: str) -> None:
    tokenizer = load_tokenizer(backbone)
    for label_all, expected in ((False, [-1, 1, -1, 0, -1]), (True, [-1, 1, 2, 0, -1])):
        task = Task.read(
            {"name": "t", "tokens": "words", "classes": ["x"], "label_all_subtokens": label_all}
        )
        fields, _ = Plain()(tokenizer, task, [Example(0, ("cat-dog is",), [1, 0])], 16)
        words = fields["words"][0]
        if len(words) == 6:  # cat - dog is
            expected = [*expected[:2], expected[2], *expected[2:]]
        labels = kind_of(task).token_labels([1, 0], words)
        assert labels == expected
        assert np.array_equal(task.kind.label_array([labels])[0], expected)
