import io
import json
from pathlib import Path

import pytest
import torch

from mtl.inference.writers import CsvWriter, JsonLinesWriter, Layout, open_output
from mtl.tasks import Task

TASKS = [
    Task.read({"name": "mood", "texts": ["text"], "classes": ["bad", "good"]}),
    Task.read({"name": "near", "texts": ["text"], "range": [0, 5]}),
]
OUTPUTS = {
    "mood": torch.tensor([[0.25, 0.75], [0.5, 0.5]]),
    "near": torch.tensor([[2.5], [-0.125]]),
}


def test_json_lines_hold_the_row_and_a_record_per_task() -> None:
    file = io.StringIO()
    JsonLinesWriter(file, Layout(TASKS)).write([3, 5], [{}, {}], OUTPUTS)
    first, second = map(json.loads, file.getvalue().splitlines())
    assert first == {
        "row": 3,
        "mood": {"prediction": "good", "probabilities": {"bad": 0.25, "good": 0.75}},
        "near": {"prediction": 2.5},
    }
    assert second["row"] == 5 and second["mood"]["prediction"] == "bad"  # a tie: the first class


def test_csv_has_a_column_per_class_and_one_per_number() -> None:
    file = io.StringIO()
    CsvWriter(file, Layout(TASKS)).write([3, 5], [{}, {}], OUTPUTS)
    assert file.getvalue().splitlines() == [
        "row,mood,mood confidence,mood.bad,mood.good,near",
        "3,good,0.75,0.25,0.75,2.5",
        "5,bad,0.5,0.5,0.5,-0.125",
    ]


def test_an_output_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new/out.jsonl"
    with pytest.raises(KeyboardInterrupt), open_output(str(path), Layout(TASKS)) as writer:
        writer.write([0, 1], [{}, {}], OUTPUTS)
        raise KeyboardInterrupt
    assert not list(path.parent.iterdir())
    with open_output(str(path), Layout(TASKS)) as writer:
        writer.write([0, 1], [{}, {}], OUTPUTS)
    assert [file.name for file in path.parent.iterdir()] == ["out.jsonl"]
