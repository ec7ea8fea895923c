"""Tables in memory become tasks that the commands take."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset

import mtl
from mtl.data.sources import open_split
from mtl.errors import UserError
from mtl.tasks import Task

ROWS = [{"text": f"text {index}", "topic": "ab"[index % 2]} for index in range(6)]
FIELDS: dict[str, Any] = {"texts": ["text"], "label": "topic", "classes": ["a", "b"]}
TABLES = {
    "list of dicts": ROWS,
    "pandas": pd.DataFrame(ROWS, index=range(6, 0, -1)),
    "Dataset": Dataset.from_list(ROWS[::-1]).select(range(5, -1, -1)),
    "Arrow": pa.Table.from_pylist(ROWS),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_read_back_as_it_was(kind: str, tmp_path: Path) -> None:
    file = mtl.save_task(tmp_path / "topics", train=TABLES[kind], test=ROWS[:2], **FIELDS)
    task = Task.read(file)
    assert task.name == "topics" and task.classes == ["a", "b"]
    assert list(open_split(task, "train").records()) == ROWS
    assert list(open_split(task, "test").records()) == ROWS[:2]


def test_a_folder_can_be_moved(tmp_path: Path) -> None:
    mtl.save_task(tmp_path / "topics", train=ROWS, **FIELDS)
    (tmp_path / "topics").rename(tmp_path / "elsewhere")
    task = Task.read(tmp_path / "elsewhere" / "task.yaml")
    assert len(list(open_split(task, "train").records())) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 5}, "train: not a table"),
        ({"train": [1]}, "train: not a table"),
        ({"train": [{"txt": "a", "topic": "a"}]}, "Did you mean 'txt'?"),
        ({"train": ROWS, "clases": ["a"]}, "Did you mean 'classes'?"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_written(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        mtl.save_task(tmp_path / "topics", **FIELDS, **arguments)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_replaced_only_on_request(tmp_path: Path) -> None:
    mtl.save_task(tmp_path / "topics", train=ROWS, test=ROWS, **FIELDS)
    with pytest.raises(UserError, match="exists; give another folder, or overwrite=True"):
        mtl.save_task(tmp_path / "topics", train=ROWS[:4], **FIELDS)
    file = mtl.save_task(tmp_path / "topics", train=ROWS[:4], overwrite=True, **FIELDS)
    assert len(list(open_split(Task.read(file), "train").records())) == 4
    assert not (tmp_path / "topics" / "test.parquet").exists()
