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


class Letters(Encoding):
    """A row's letters as their numbers."""

    def key(self, task: Task) -> str:
        return "letters"

    def __call__(
        self, tokenizer: Any, task: Task, rows: Any, max_length: int
    ) -> tuple[dict[str, list[Any]], int]:
        tokenizer.calls += len(rows)
        return {"input_ids": [[ord(letter) for letter in "|".join(row.texts)] for row in rows]}, 0


class Tokenizer:
    pad_token_id = 0
    pad_token_type_id = 0
    calls = 0


class Hashes(nn.Module):
    """Answers with a number of the row's letters and its task, in the shape of a method."""

    device = torch.device("cpu")

    def __init__(self, knows: bool) -> None:
        super().__init__()
        self.tasks, self.encoder_is_task_specific = TASKS, knows
        self.passes: list[int] = []

    def predict_proba(self, batch: Batch) -> dict[str, Tensor]:
        letters = torch.cat(
            [
                nn.functional.pad(batch.tokens["input_ids"][rows, :length], (0, 99 - length))
                for rows, length in length_groups(batch)
            ]
        )
        self.passes.append(len(letters))
        if self.encoder_is_task_specific:
            for segment in batch.segments:
                assert {
                    TASKS[place].name for place in batch.task_ids[segment.examples].tolist()
                } == {segment.task}
        numbers = (letters * torch.arange(1, 100)).sum(1, keepdim=True).float()
        return {
            segment.task: numbers[segment.examples] + len(segment.task) / 8
            for segment in batch.segments
        }


def expected(row: str, task: str) -> float:
    return sum(ord(letter) * place for place, letter in enumerate(row, 1)) + len(task) / 8


@given(
    rows=lists(text("abcdefgh", min_size=1, max_size=30), min_size=1, max_size=40),
    batch_size=integers(1, 9),
    knows=booleans(),
)
def test_answers_stand_in_the_rows_order_whatever_the_batches(
    rows: list[str], batch_size: int, knows: bool
) -> None:
    module, tokenizer = Hashes(knows), Tokenizer()
    questions = {"one": (0,), "two": (0,), "pair": (0, 1)}
    ask = InferenceEngine(module, tokenizer, Letters(), 99, questions, batch_size)  # type: ignore[arg-type]
    found = ask([(row, row[::-1]) for row in rows])
    assert found["one"][:, 0].tolist() == [expected(row, "one") for row in rows]
    assert found["two"][:, 0].tolist() == [expected(row, "two") for row in rows]
    assert found["pair"][:, 0].tolist() == [expected(f"{row}|{row[::-1]}", "pair") for row in rows]
    assert tokenizer.calls == 2 * len(rows)  # two tasks read the same text, tokenised once
    assert sum(module.passes) == (3 if knows else 2) * len(rows)
    assert max(module.passes) <= max(batch_size, 2)


def test_a_row_asked_of_several_stands_once_or_once_for_each() -> None:
    parts = [
        InferencePart([2], {"input_ids": [np.array([1, 2, 3])]}),
        InferencePart([0, 1], {"input_ids": [np.array([4]), np.array([5, 6])]}),
    ]
    names = [task.name for task in TASKS]
    once, apart = (inference_batch(parts, names, {}, flag) for flag in (True, False))
    assert [(segment.task, segment.examples) for segment in once.segments] == [
        ("one", slice(0, 2)),
        ("two", slice(0, 2)),
        ("pair", slice(2, 3)),
    ]
    assert once.tokens["input_ids"].tolist() == [[4, 0, 0], [5, 6, 0], [1, 2, 3]]
    assert [(segment.task, segment.examples) for segment in apart.segments] == [
        ("one", slice(0, 2)),
        ("two", slice(2, 4)),
        ("pair", slice(4, 5)),
    ]
    assert apart.task_ids.tolist() == [0, 0, 1, 1, 2]
    with pytest.raises(IndexError):  # nobody takes one task for the other
        nn.Embedding(3, 2)(once.task_ids)
