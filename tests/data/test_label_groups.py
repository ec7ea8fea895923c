"""Tasks that label the same texts: encoded once, drawn together, one encoder pass."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from mtl.data import RoundRobinDataModule
from mtl.data.checks import checked_examples
from mtl.data.sources import open_split
from mtl.errors import UserError
from mtl.methods import MultiHead, PALs
from mtl.tasks import Task, check_tasks

WORDS = "the a cat dog house sees likes good bad red green blue film food was is not very".split()
FIELDS: dict[str, Any] = {
    "source": {"path": "data"},
    "texts": ["message"],
    "tasks": {
        "topic": {"label": "topic", "classes": ["billing", "delivery", "other"]},
        "urgency": {"label": "urgency", "range": [0, 5]},
        "tags": {"labels": "tags", "classes": ["refund", "legal"]},
    },
}


def write_messages(folder: Path) -> Path:
    """A task file with three tasks on one text; some labels are missing."""
    rng = np.random.default_rng(0)
    (folder / "data").mkdir()
    for split, count in (("train", 30), ("validation", 12), ("test", 12)):
        rows = [
            {
                "message": " ".join(rng.choice(WORDS, rng.integers(2, 9))),
                "topic": ["billing", "delivery", "other", None][row % 4],
                "urgency": None if row % 5 == 0 else row % 6,
                "tags": None if row % 7 == 3 else [["refund"], [], ["refund", "legal"]][row % 3],
            }
            for row in range(count)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "data" / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    path = folder / "support.yaml"
    path.write_text(yaml.safe_dump(FIELDS, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture
def messages(tmp_path: Path) -> Path:
    return write_messages(tmp_path)


class Once:
    """Stands for a Trainer whose method encodes an example once for all of its tasks."""

    def __init__(self, rank: int = 0, world: int = 1, task_specific: bool = False) -> None:
        self.global_rank, self.world_size, self.overfit_batches = rank, world, 0
        self.lightning_module = self
        self.encoder_is_task_specific = task_specific


def data_of(file: Path, backbone: str, trainer: Once | None = None, **options: Any) -> Any:
    tasks = Task.read_all(file)
    cache = file.parent / "cache"
    data: Any = RoundRobinDataModule(
        tasks=tasks, backbone=backbone, cache=cache, batch_size=8, **options
    )
    data.train_splits = data._open_training()
    data._trainer = trainer
    type(data).trainer = property(lambda self: self._trainer)  # the tests start no Trainer
    return data


@pytest.fixture(autouse=True)
def _restored_trainer() -> Any:
    yield
    if "trainer" in vars(RoundRobinDataModule):
        delattr(RoundRobinDataModule, "trainer")


def batches(data: Any, rank: int = 0, world: int = 1) -> list[Any]:
    steps = data._training_steps(0, 0, rank, world)
    return [steps[index] for index in range(len(steps))]


def test_a_file_with_several_tasks_is_read_as_tasks_of_one_source(messages: Path) -> None:
    topic, urgency, tags = Task.read_all(messages)
    assert [task.name for task in (topic, urgency, tags)] == ["topic", "urgency", "tags"]
    assert topic.source == urgency.source == tags.source
    assert urgency.range == (0, 5)
    assert Task.read(f"{messages}#tags") == tags
    assert check_tasks([{"tasks": [asdict(topic), asdict(urgency)]}]) == [topic, urgency]
    with pytest.raises(UserError, match="has several tasks: topic, urgency, tags; name one"):
        Task.read(messages)
    with pytest.raises(UserError, match="unknown task 'topics'.*Did you mean 'topic'"):
        Task.read(f"{messages}#topics")


def test_a_group_is_encoded_once_and_each_example_drawn_once(messages: Path, backbone: str) -> None:
    data = data_of(messages, backbone, Once())
    assert len(list((messages.parent / "cache").glob("*train*"))) == 1
    assert len(data.streams()) == 1
    lines = (messages.parent / "data" / "train.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    seen: dict[str, dict[int, Any]] = {"topic": {}, "urgency": {}, "tags": {}}
    for batch in batches(data):
        complete = slice(0, len(batch.task_ids))
        assert all(segment.examples == complete for segment in batch.segments)
        for segment in batch.segments:
            present = segment.weights > 0
            assert segment.denominator == int(present.sum())
            for row, label in zip(
                segment.ids[present].tolist(), segment.labels[present].tolist(), strict=True
            ):
                assert row not in seen[segment.task]
                seen[segment.task][row] = label
    kinds = {task.name: task.kind for task in data.tasks}
    for name, found in seen.items():
        expected = {row: each[name] for row, each in enumerate(records) if each[name] is not None}
        assert {row: kinds[name].label_value(label) for row, label in found.items()} == expected
    assert data.sizes == {name: len(found) for name, found in seen.items()}


def losses_and_gradients(
    method: Any, batch: Any
) -> tuple[dict[str, Tensor], dict[str, Tensor | None]]:
    method.zero_grad()
    losses = method.task_losses(batch)
    torch.stack(list(losses.values())).sum().backward()
    return losses, {name: weight.grad for name, weight in method.named_parameters()}


def test_one_pass_equals_a_batch_per_task(messages: Path, backbone: str) -> None:
    torch.manual_seed(0)
    data = data_of(messages, backbone, Once())
    method = MultiHead(tasks=data.tasks, backbone=backbone, dropout=0.0).eval()
    together = batches(data)[0]
    data._trainer = Once(task_specific=True)
    repeated = batches(data)[0]
    assert not repeated.shares_examples
    assert together.shares_examples
    found, gradients = losses_and_gradients(method, together)
    expected, expected_gradients = losses_and_gradients(method, repeated)
    assert found.keys() == expected.keys()
    for task, loss in found.items():
        torch.testing.assert_close(loss, expected[task])
    for name, gradient in gradients.items():
        other = expected_gradients[name]
        assert (gradient is None) == (other is None)
        if gradient is not None and other is not None:
            torch.testing.assert_close(gradient, other, atol=1e-6, rtol=1e-4)


def test_the_mean_over_processes_is_the_loss_of_the_complete_batch(
    messages: Path, backbone: str
) -> None:
    data = data_of(messages, backbone, Once())
    method = MultiHead(tasks=data.tasks, backbone=backbone, dropout=0.0).eval()
    for step in range(4):
        complete = method.task_losses(batches(data)[step])
        shares = [method.task_losses(batches(data, rank, 3)[step]) for rank in range(3)]
        for task, loss in complete.items():
            mean = torch.stack([share[task] for share in shares]).mean()
            torch.testing.assert_close(mean, loss)


def test_methods_with_a_task_specific_encoder_get_each_task_s_labelled_examples(
    messages: Path, backbone: str
) -> None:
    data = data_of(messages, backbone, Once(task_specific=True))
    method = PALs(tasks=data.tasks, backbone=backbone, size=8)
    assert method.encoder_is_task_specific
    batch = batches(data)[0]
    for segment in batch.segments:
        assert len(segment.labels) == segment.denominator
        assert (batch.task_ids[segment.examples] == data_index(data, segment.task)).all()


def data_index(data: Any, name: str) -> int:
    return [task.name for task in data.tasks].index(name)


def test_a_task_without_label_in_a_batch_is_not_in_it(messages: Path, backbone: str) -> None:
    file = messages.parent / "data" / "train.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    for record in records[1:]:
        record["urgency"] = None if record["topic"] else 1
    file.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    data = data_of(messages, backbone, Once(), seed=1)
    for batch in batches(data):
        for segment in batch.segments:
            assert segment.weights.sum() > 0


def test_single_tasks_may_be_drawn(messages: Path, backbone: str) -> None:
    data = data_of(messages, backbone, Once(), label_groups=False)
    assert len(data.streams()) == 3
    assert all(len(batch.segments) == 1 for batch in batches(data))


def test_a_row_without_any_label_is_dropped_and_counted(messages: Path, backbone: str) -> None:
    file = messages.parent / "data" / "train.jsonl"
    with file.open("a", encoding="utf-8") as lines:
        lines.write('{"message": "a cat", "topic": null, "urgency": null, "tags": null}\n')
    data = data_of(messages, backbone, Once())
    assert data.train_splits[0].report.dropped == {"unlabelled": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"urgency": [1]}, "task 'urgency', column 'urgency': target [1] is not a number"),
        ({"topic": "bill"}, "task 'topic', column 'topic': label 'bill' is not one of the classes"),
    ],
)
def test_a_fault_of_one_task_names_it_and_its_column(
    messages: Path, row: dict[str, object], message: str
) -> None:
    file = messages.parent / "data" / "train.jsonl"
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"message": "a cat", "topic": None, "tags": None} | row))
    tasks = Task.read_all(messages)
    with pytest.raises(UserError, match="row 31: ") as refused:
        list(checked_examples(tasks, open_split(tasks[0], "train"), Counter()))
    assert message in str(refused.value)
    assert ", ".join(repr(task.name) for task in tasks[:-1]) in str(refused.value)


def test_the_holdout_and_the_training_examples_do_not_overlap(
    messages: Path, backbone: str
) -> None:
    fields = FIELDS | {"splits": {"train": "train", "validation": ["test"], "test": ["test"]}}
    messages.write_text(yaml.safe_dump(fields, sort_keys=False), encoding="utf-8")
    data = data_of(messages, backbone, Once(), holdout=0.3)
    for index, split in data.train_splits.items():
        (evaluation,) = [each for each in data.evaluations("fit") if each.task == index]
        held = data.evaluation_split(evaluation, "fit")
        assert len(held) > 0
        assert not set(held.numbers) & set(split.numbers)
