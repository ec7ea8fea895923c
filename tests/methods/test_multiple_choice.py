"""Multiple choice in every method that supports it, in mixed batches with sentence tasks."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchjd.aggregation as aggregation
from transformers import AutoModelForMultipleChoice, AutoTokenizer

from mtl.balancing import Surgery
from mtl.batch import collate
from mtl.data import RoundRobinDataModule, UncertaintyDataModule
from mtl.data.order import Draw
from mtl.errors import UserError
from mtl.inference.predictor import Predictor
from mtl.methods import (
    CAMTL,
    Adapters,
    Joint,
    LoRA,
    MultiHead,
    MultiTaskModule,
    PALs,
    Separate,
    TaskLayers,
)
from mtl.tasks import Task
from tests.balancing.helpers import assert_combined, no_separate_passes, training_step
from tests.conftest import WORDS
from tests.export.runs import export, save_run
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


@pytest.fixture(scope="module")
def choice_tasks(tmp_path_factory: pytest.TempPathFactory) -> list[Task]:
    """Which candidate repeats a word of the text; and whether the text has an animal."""
    folder, draw = tmp_path_factory.mktemp("choices"), random.Random(0)
    for split, count in (("train", 40), ("validation", 9), ("test", 9)):
        rows = []
        for _ in range(count):
            text, other = draw.sample(WORDS[:12], 4), draw.sample(WORDS[12:], 3)
            label = draw.randrange(2)
            good, bad = " ".join(text[:2]), " ".join(other)
            rows.append(
                {"premise": " ".join(text), "question": "it", "label": label}
                | {"a": [good, bad][label], "b": [bad, good][label]}
                | {"animal": ["no", "yes"][int("cat" in text or "dog" in text)]}
            )
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"path": str(folder)}
    return [
        Task.read(
            {"name": "pick", "texts": ["premise", "question"], "choices": ["a", "b"]}
            | {"source": source}
        ),
        Task.read(
            {"name": "has", "texts": ["premise"], "label": "animal", "classes": ["no", "yes"]}
            | {"source": source}
        ),
    ]


def make_data(cls: Any, tasks: list[Task], backbone: str, folder: Path, **args: Any) -> Any:
    options = {"batch_size": 8, "max_length": 24, "cache": folder / "cache", **args}
    return cls(tasks=tasks, backbone=backbone, **options)


@pytest.mark.parametrize(("cls", "args"), METHODS, ids=[m.__name__ for m, _ in METHODS])
def test_a_mixed_batch_is_trained_and_evaluated(
    cls: type[MultiTaskModule],
    args: dict[str, Any],
    choice_tasks: list[Task],
    backbone: str,
    in_tmp: Path,
) -> None:
    method = cls(tasks=choice_tasks, backbone=backbone, lr=1e-2, **args)
    data = make_data(RoundRobinDataModule, choice_tasks, backbone, in_tmp, mixed=True)
    trainer = fit(method, data, max_steps=3, limit_val_batches=0)
    trainer.test(method, data, verbose=False)
    outputs = method.predictions["pick"].outputs
    assert outputs.shape == (9, 2)
    torch.testing.assert_close(outputs.sum(1), torch.ones(9))


def test_one_backward_pass_gives_the_gradients_of_separate_passes(
    choice_tasks: list[Task], backbone: str, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    balancer = Surgery(aggregation.UPGrad)
    method = MultiHead(tasks=choice_tasks, backbone=backbone, balancer=balancer).eval()
    method.balancer.on_fit_start(method, {})
    data = make_data(RoundRobinDataModule, choice_tasks, backbone, in_tmp, mixed=True)
    data.train_splits = data._open_training()
    batch = next(iter(data.train_dataloader()))
    assert len(batch.task_ids) == 8 * 2 + 8
    with no_separate_passes(monkeypatch):
        training_step(method, batch)
    assert_combined(method, batch)


def test_two_questions_on_the_same_candidates_share_an_encoder_pass(
    choice_tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    torch.manual_seed(0)
    tasks = [choice_tasks[0], replace(choice_tasks[0], name="again"), choice_tasks[1]]
    method = MultiHead(tasks=tasks, backbone=backbone, dropout=0.0).eval()
    method.heads["again"].load_state_dict(method.heads["pick"].state_dict())
    data = make_data(RoundRobinDataModule, tasks, backbone, in_tmp)
    data.train_splits = data._open_training()
    assert data.groups == [[0, 1], [2]]
    group, draw = data.stream_splits()[0], Draw(0, np.arange(6))
    batches = [
        collate(group.take(draw, draw.examples, 1, 0, once), [task.name for task in tasks], {})
        for once in (True, False)
    ]
    assert [len(batch.task_ids) for batch in batches] == [6 * 2, 2 * 6 * 2]
    (together, repeated) = (method.task_losses(batch) for batch in batches)
    for losses in (together, repeated):
        torch.testing.assert_close(losses["pick"], losses["again"])
    torch.testing.assert_close(together["pick"], repeated["pick"])


def test_each_candidate_is_scored_as_if_it_were_alone(
    choice_tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    run = save_run(in_tmp / "run", MultiHead, choice_tasks, backbone)
    predictor = Predictor(run, device="cpu")
    texts = [("the cat sees", "it", "a dog", "good red film"), ("a house", "it", "the", "bad")]
    predictions = predictor.predict(texts, task="pick")
    tokenizer, head = predictor.tokenizer, predictor.module.get_submodule("heads.pick")
    layers = list(head.children())
    encoder: Any = predictor.module.backbone
    for example, prediction in zip(texts, predictions, strict=True):
        scores = []
        for candidate in example[2:]:
            tokens = tokenizer(f"{example[0]} {example[1]}", candidate, return_tensors="pt")
            with torch.no_grad():
                states = encoder.backbone(**tokens).last_hidden_state[:, 0]
                scores.append(torch.nn.Sequential(*layers)(states)[0, 0])
        expected = torch.stack(scores).softmax(0).tolist()
        assert prediction.probabilities is not None
        assert list(prediction.probabilities.values()) == pytest.approx(expected, abs=1e-5)
        assert prediction.value == ["a", "b"][int(expected[1] > expected[0])]
    assert (export(run, in_tmp / "out", "--format", "mtl") / "README.md").is_file()
    folder = export(run, in_tmp / "transformers", "--task", "pick")
    exported = AutoModelForMultipleChoice.from_pretrained(folder)
    for example, prediction in zip(texts, predictions, strict=True):
        pairs = [f"{example[0]} {example[1]}"] * 2, list(example[2:])
        inputs = AutoTokenizer.from_pretrained(folder)(*pairs, padding=True, return_tensors="pt")
        with torch.no_grad():
            logits = exported(**{name: values[None] for name, values in inputs.items()}).logits
        assert prediction.probabilities is not None
        ours = list(prediction.probabilities.values())
        assert logits.softmax(-1)[0].tolist() == pytest.approx(ours, abs=1e-5)


def test_what_does_not_support_multiple_choice_refuses_it(
    choice_tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    with pytest.raises(UserError, match="Joint does not support multiple choice"):
        Joint(tasks=choice_tasks, backbone=backbone)
    with pytest.raises(UserError, match="uncertainty sampling: 'pick' is a multiple choice"):
        make_data(UncertaintyDataModule, choice_tasks, backbone, in_tmp)
    with pytest.raises(UserError, match="choices are the classes"):
        Task.read({"name": "t", "texts": ["x"], "choices": ["a", "b"], "tokens": "x"})
