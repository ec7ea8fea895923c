import datetime
import io
import json
from pathlib import Path

import pyarrow.parquet
import pytest
import torch

from mtl.errors import UserError
from mtl.inference.layout import Layout
from mtl.inference.writers import CsvWriter, JsonLinesWriter, open_output
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


def test_parquet_has_the_columns_of_csv_with_types(tmp_path: Path) -> None:
    layout = Layout(TASKS, ["id", "when", "note"], threshold=0.6)
    day = datetime.date(2026, 1, 2)
    kept = [{"id": 7, "when": day, "note": None}, {"id": 8, "when": day}]
    with open_output(str(tmp_path / "out.parquet"), layout) as writer:
        writer.write([3, 5], kept, OUTPUTS)
        writer.write([], [], {})
        writer.write([6, 9], [{"note": "late"}, {"id": 9}], OUTPUTS)
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names[:4] == ["row", "id", "when", "note"]
    assert table.column_names[4:] == ["mood", "mood confidence", "mood.bad", "mood.good", "near"]
    types = [str(field.type) for field in table.schema]
    assert types == ["int64", "int64", "date32[day]", "string", "string", *["double"] * 4]
    assert table.column("row").to_pylist() == [3, 5, 6, 9]
    assert table.column("id").to_pylist() == [7, 8, None, 9]
    assert table.column("note").to_pylist() == [None, None, "late", None]
    assert table.column("mood").to_pylist() == ["good", None] * 2  # 0.5 is below the threshold
    assert table.column("near").to_pylist() == [2.5, -0.125] * 2


def test_a_parquet_file_without_rows_has_its_columns(tmp_path: Path) -> None:
    with open_output(str(tmp_path / "out.parquet"), Layout(TASKS, ["id"])):
        pass
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").shape == (0, 7)


def test_kept_values_of_several_types_do_not_fit_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    for values in ([1, "a"], [1, 2.5]):
        message = "--keep id: a column of a Parquet file has values of one type, rows 3 to 3"
        with (
            pytest.raises(UserError, match=message),
            open_output(str(path), Layout(TASKS, ["id"])) as writer,
        ):
            for value in values:
                half = {name: outputs[:1] for name, outputs in OUTPUTS.items()}
                writer.write([3], [{"id": value}], half)
    assert not list(tmp_path.iterdir())


def test_dates_of_a_parquet_input_are_text_in_json_and_csv(tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.csv"):
        with open_output(str(tmp_path / name), Layout(TASKS, ["when"])) as writer:
            writer.write([3, 5], [{"when": datetime.date(2026, 1, 2)}, {}], OUTPUTS)
        assert "2026-01-02" in (tmp_path / name).read_text()


def test_an_output_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new/out.jsonl"
    with pytest.raises(KeyboardInterrupt), open_output(str(path), Layout(TASKS)) as writer:
        writer.write([0, 1], [{}, {}], OUTPUTS)
        raise KeyboardInterrupt
    assert not list(path.parent.iterdir())
    with open_output(str(path), Layout(TASKS)) as writer:
        writer.write([0, 1], [{}, {}], OUTPUTS)
    assert [file.name for file in path.parent.iterdir()] == ["out.jsonl"]
