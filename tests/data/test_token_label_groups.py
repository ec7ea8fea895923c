"""Label groups with token labels: words and sentences of the same texts in one encoder pass."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchjd.aggregation as aggregation
import yaml
from transformers import BertModel

from mtl.balancing import Surgery
from mtl.batch import Batch, collate
from mtl.callbacks import ThroughputMonitor
from mtl.callbacks.group_accuracy import group_accuracies
from mtl.data import RoundRobinDataModule
from mtl.data.checks import Example
from mtl.data.encoding import Plain
from mtl.data.label_groups import label_groups
from mtl.data.order import Draw
from mtl.errors import UserError
from mtl.inference.engine import InferenceEngine
from mtl.methods import MultiHead, MultiTaskModule
from mtl.modules.backbone import load_tokenizer
from mtl.predictions import Predictions
from mtl.tasks import Task
from tests.balancing.helpers import assert_combined, training_step
from tests.data.test_label_groups import losses_and_gradients
from tests.label_group import FIELDS, write_label_group
from tests.methods.test_token_labels import METHODS
from tests.methods.training import fit


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task file with four tasks on one text; every task lacks some labels."""
    return write_label_group(tmp_path_factory.mktemp("group"))


def _rows(file: Path, split: str) -> list[dict[str, Any]]:
    lines = (file.parent / "data" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def data_of(tasks: list[Task], backbone: str, folder: Path, **args: Any) -> Any:
    options = {"batch_size": 8, "max_length": 8, "cache": folder / "cache", **args}
    return RoundRobinDataModule(tasks=tasks, backbone=backbone, **options)


def batch_of(data: Any, once: bool) -> Batch:
    """The first 12 examples, with the labels of all tasks."""
    data.train_splits = data._open_training()
    (group,) = data.stream_splits().values()
    draw = Draw(0, np.arange(12))
    parts = group.take(draw, draw.examples, 1, 0, once)
    return collate(parts, [task.name for task in data.tasks], {})


@pytest.fixture
def encoder_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of texts of each forward pass of a BERT."""
    passes: list[int] = []
    forward = BertModel.forward

    def counted(self: Any, input_ids: Any = None, *args: Any, **kwargs: Any) -> Any:
        passes.append(len(input_ids))
        return forward(self, input_ids, *args, **kwargs)

    monkeypatch.setattr(BertModel, "forward", counted)
    return passes


def test_one_encoder_pass_serves_words_and_sentences(
    file: Path, backbone: str, in_tmp: Path, encoder_passes: list[int]
) -> None:
    torch.manual_seed(0)
    data = data_of(Task.read_all(file), backbone, in_tmp)
    method = MultiHead(tasks=data.tasks, backbone=backbone, dropout=0.0).eval()
    together = batch_of(data, once=True)
    assert len(list((in_tmp / "cache").glob("*train*"))) == 1
    found, gradients = losses_and_gradients(method, together)
    assert encoder_passes == [12]
    expected, expected_gradients = losses_and_gradients(method, batch_of(data, once=False))
    assert found.keys() == expected.keys() == {"topic", "urgency", "tags", "entities"}
    for task, loss in found.items():
        torch.testing.assert_close(loss, expected[task])
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], atol=1e-6, rtol=1e-4)
    # The mean over the labelled words of the examples that have entities; texts are cut to 8
    # tokens, two of which are special.
    rows = _rows(file, "train")
    segment = next(each for each in together.segments if each.task == "entities")
    assert segment.denominator == sum(min(6, len(each["entities"] or ())) for each in rows[:12])
    split = data.train_splits[3]
    cut = sum(max(0, len(row["entities"] or ()) - 6) for row in rows)
    assert split.report.cut_labels == cut
    assert data.train_splits[0].report.cut_labels == 0


def test_gradient_surgery_equals_a_backward_pass_per_task(
    file: Path, backbone: str, in_tmp: Path
) -> None:
    torch.manual_seed(0)
    data = data_of(Task.read_all(file), backbone, in_tmp)
    balancer = Surgery(aggregation.UPGrad)
    method = MultiHead(tasks=data.tasks, backbone=backbone, balancer=balancer).eval()
    batch = batch_of(data, once=True)
    method.balancer.on_fit_start(method, {})
    with pytest.warns(UserWarning, match="a backward pass for each task, because tasks label"):
        training_step(method, batch)
    assert_combined(method, batch)


@pytest.mark.parametrize(("cls", "args"), METHODS, ids=[m.__name__ for m, _ in METHODS])
def test_every_method_trains_and_evaluates_the_group(
    cls: type[MultiTaskModule], args: dict[str, Any], file: Path, backbone: str, in_tmp: Path
) -> None:
    data = data_of(Task.read_all(file), backbone, in_tmp, mixed=cls is not MultiHead)
    method = cls(tasks=data.tasks, backbone=backbone, lr=1e-3, **args)
    drawn = ThroughputMonitor()
    trainer = fit(method, data, max_steps=3, limit_val_batches=0, callbacks=[drawn])
    assert drawn.examples["entities"] <= 3 * 8  # texts, not words
    trainer.test(method, data, verbose=False)
    rows = _rows(file, "test")
    for name, predictions in method.predictions.items():
        known = [row for row, each in enumerate(rows) if each[name] is not None]
        assert predictions.ids.tolist() == known
    predictions = method.predictions["entities"]
    for row, labels in zip(predictions.ids.tolist(), predictions.labels.tolist(), strict=True):
        assert predictions.task.kind.label_value(labels) == rows[row]["entities"][:6]


def test_sentences_have_the_same_token_ids_with_and_without_words(
    file: Path, backbone: str
) -> None:
    tokenizer = load_tokenizer(backbone)
    topic, _, _, entities = Task.read_all(file)
    texts = [" ".join(row["words"]) for row in _rows(file, "train")]
    examples = [Example(row, (text,), None) for row, text in enumerate(texts)]
    alone, truncated = Plain()(tokenizer, topic, examples, 8)
    grouped, grouped_truncated = Plain()(tokenizer, entities, examples, 8)
    assert truncated == grouped_truncated > 0
    assert all(grouped[name] == values for name, values in alone.items())


def test_words_and_sentences_are_predicted_in_one_encoder_pass(
    file: Path, backbone: str, encoder_passes: list[int]
) -> None:
    tasks = Task.read_all(file)
    method = MultiHead(tasks=tasks, backbone=backbone).eval()
    texts = [("the red cat",), ("a dog was not very good",)]

    def predict(*names: str) -> dict[str, Any]:
        columns = dict.fromkeys(names, (0,))
        return InferenceEngine(method, load_tokenizer(backbone), Plain(), 16, columns)(texts)

    together = predict("topic", "entities")
    assert encoder_passes == [2]
    torch.testing.assert_close(together["topic"], predict("topic")["topic"])
    for found, expected in zip(together["entities"], predict("entities")["entities"], strict=True):
        assert found.words == expected.words
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)


def test_spans_of_characters_group_with_the_tasks_of_their_text(file: Path) -> None:
    topic, urgency, tags, entities = Task.read_all(file)
    spans = replace(entities, name="spans", tags="spans", label="spans")
    tasks = [topic, spans, urgency]
    assert label_groups(tasks, Plain(), {}) == [[1, 0, 2]]
    # Punctuation is a word in texts with spans only, so one numbering of words cannot serve both.
    assert label_groups([*tasks, entities], Plain(), {}) == [[1, 0, 2], [3]]
    windows = replace(entities, window_overlap=2)
    assert label_groups([topic, windows, tags], Plain(), {}) == [[0, 2], [1]]


def test_another_text_column_than_that_of_the_words_is_refused(file: Path) -> None:
    other = file.parent / "other.yaml"
    other.write_text(
        yaml.safe_dump(FIELDS | {"texts": ["message"]}, sort_keys=False), encoding="utf-8"
    )
    with pytest.raises(UserError) as refused:
        Task.read_all(other)
    assert str(refused.value) == (
        f"{other}: tasks.entities: it labels the words of column 'words', but topic reads "
        "['message']; the tasks of a file label the same texts. Write `texts: [words]` instead "
        "(the text is then these words, joined by spaces; `mtl predict` reads this column, too), "
        "or give entities a task file of its own"
    )


def test_the_accuracy_of_a_group_counts_texts_whose_labels_are_all_right(file: Path) -> None:
    topic, urgency, tags, entities = Task.read_all(file)
    none = torch.full((4,), torch.nan)
    one_hot = torch.eye(3)
    words = torch.eye(5)[torch.tensor([[0, 1], [0, 1], [2, 0], [0, 0]])]
    predictions = {
        "topic": Predictions(
            topic, torch.arange(4), torch.tensor([0, 1, 2, -1]), one_hot[[0, 1, 1, 0]], none
        ),
        "urgency": Predictions(urgency, torch.arange(4), none, none[:, None], none),
        "entities": Predictions(
            entities,
            torch.tensor([1, 2, 3, 4]),
            torch.tensor([[0, -1], [0, 0], [2, 0], [0, 0]]),
            words,
            none,
        ),
    }
    # Texts 1 and 2 have both labels. In text 1 both are right; in text 2 the topic is wrong.
    tasks = [topic, urgency, entities]
    assert group_accuracies(predictions, tasks, [[2, 0, 1]]) == {"topic + entities": 0.5}
    assert group_accuracies(predictions, tasks, [[0], [1], [2]]) == {}
    assert group_accuracies(predictions, [topic, urgency], [[0, 1]]) == {}
    both = {
        "tags": Predictions(
            tags, torch.arange(2), torch.tensor([[1, 0], [1, 1]]), one_hot[:2, :2], none[:2]
        )
    }
    known = {"topic": predictions["topic"]} | both
    assert group_accuracies(known, [topic, tags], [[0, 1]]) == {"topic + tags": 0.5}
