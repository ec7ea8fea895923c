from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import booleans, integers, lists, text
from torch import Tensor, nn

from mtl.batch import Batch, InferencePart, inference_batch, length_groups
from mtl.data.encoding import Encoding
from mtl.inference.engine import InferenceEngine
from mtl.tasks import Task

TASKS = [
    Task.read({"name": "one", "texts": ["text"], "range": [0, 9]}),
    Task.read({"name": "two", "texts": ["text"], "range": [0, 9]}),
    Task.read({"name": "pair", "texts": ["first", "second"], "range": [0, 9]}),
]


class CharacterEncoding(Encoding):
    """Token ids are the code points of the characters."""

    def key(self, task: Task) -> str:
        return "characters"

    def __call__(
        self, tokenizer: Any, task: Task, examples: Any, max_length: int
    ) -> tuple[dict[str, list[Any]], int]:
        tokenizer.calls += len(examples)
        ids = [[ord(character) for character in "|".join(each.texts)] for each in examples]
        return {"input_ids": ids}, 0


class CountingTokenizer:
    """Counts the examples that are encoded."""

    pad_token_id = 0
    pad_token_type_id = 0
    calls = 0


class HashingMethod(nn.Module):
    """A stand-in for a method: predicts a hash of the token ids and the task.

    Args:
        task_specific: Whether it takes each example once per task.
    """

    device = torch.device("cpu")

    def __init__(self, task_specific: bool) -> None:
        super().__init__()
        self.tasks, self.encoder_is_task_specific = TASKS, task_specific
        self.batch_sizes: list[int] = []

    def predict_proba(self, batch: Batch) -> dict[str, Tensor]:
        ids = torch.cat(
            [
                nn.functional.pad(batch.tokens["input_ids"][rows, :length], (0, 99 - length))
                for rows, length in length_groups(batch)
            ]
        )
        self.batch_sizes.append(len(ids))
        if self.encoder_is_task_specific:
            for segment in batch.segments:
                task_ids = batch.task_ids[segment.examples].tolist()
                assert {TASKS[index].name for index in task_ids} == {segment.task}
        hashes = (ids * torch.arange(1, 100)).sum(1, keepdim=True).float()
        return {
            segment.task: hashes[segment.examples] + len(segment.task) / 8
            for segment in batch.segments
        }


def expected_value(characters: str, task: str) -> float:
    hashes = (ord(character) * position for position, character in enumerate(characters, 1))
    return sum(hashes) + len(task) / 8


@given(
    texts=lists(text("abcdefgh", min_size=1, max_size=30), min_size=1, max_size=40),
    batch_size=integers(1, 9),
    task_specific=booleans(),
)
def test_predictions_are_in_the_order_of_the_examples_for_every_batch_size(
    texts: list[str], batch_size: int, task_specific: bool
) -> None:
    method, tokenizer = HashingMethod(task_specific), CountingTokenizer()
    columns = {"one": (0,), "two": (0,), "pair": (0, 1)}
    engine = InferenceEngine(method, tokenizer, CharacterEncoding(), 99, columns, batch_size)  # type: ignore[arg-type]
    outputs = engine([(first, first[::-1]) for first in texts])
    assert outputs["one"][:, 0].tolist() == [expected_value(first, "one") for first in texts]
    assert outputs["two"][:, 0].tolist() == [expected_value(first, "two") for first in texts]
    assert outputs["pair"][:, 0].tolist() == [
        expected_value(f"{first}|{first[::-1]}", "pair") for first in texts
    ]
    assert tokenizer.calls == 2 * len(texts)  # two tasks read the same text, encoded once
    assert sum(method.batch_sizes) == (3 if task_specific else 2) * len(texts)
    assert max(method.batch_sizes) <= max(batch_size, 2)


def test_no_examples_give_no_predictions() -> None:
    columns = {"one": (0,)}
    tokenizer = CountingTokenizer()
    engine = InferenceEngine(HashingMethod(False), tokenizer, CharacterEncoding(), 99, columns)  # type: ignore[arg-type]
    assert engine([])["one"].shape == (0, 1)


def test_a_batch_holds_an_example_of_several_tasks_once_or_once_per_task() -> None:
    parts = [
        InferencePart([2], {"input_ids": [np.array([1, 2, 3])]}),
        InferencePart([0, 1], {"input_ids": [np.array([4]), np.array([5, 6])]}),
    ]
    names = [task.name for task in TASKS]
    shared, repeated = (inference_batch(parts, names, {}, once) for once in (True, False))
    assert [(segment.task, segment.examples) for segment in shared.segments] == [
        ("one", slice(0, 2)),
        ("two", slice(0, 2)),
        ("pair", slice(2, 3)),
    ]
    assert shared.tokens["input_ids"].tolist() == [[4, 0, 0], [5, 6, 0], [1, 2, 3]]
    assert [(segment.task, segment.examples) for segment in repeated.segments] == [
        ("one", slice(0, 2)),
        ("two", slice(2, 4)),
        ("pair", slice(4, 5)),
    ]
    assert repeated.task_ids.tolist() == [0, 0, 1, 1, 2]
    with pytest.raises(IndexError):  # a shared example has no task id that a module could look up
        nn.Embedding(3, 2)(shared.task_ids)
