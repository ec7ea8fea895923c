import pickle
from pathlib import Path

import numpy as np
import pytest

from mtl.data import encoded_split, encoding
from mtl.data.encoded_split import EncodedSplit
from mtl.data.encoding import Plain, encode
from mtl.data.order import Draw
from mtl.errors import UserError
from mtl.modules.backbone import load_tokenizer
from mtl.tasks import Task


def encoded(
    task: Task, backbone: str, cache: Path, max_length: int = 16, split: str = "train"
) -> Path:
    return encode(
        task,
        split,
        tokenizer=load_tokenizer(backbone),
        encoding=Plain(),
        max_length=max_length,
        cache=cache,
    )


@pytest.mark.parametrize("chunk", [1, 7, 8192])
def test_rows_come_back_as_the_tokenizer_makes_them(
    tasks: list[Task], backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(encoded_split, "CHUNK", chunk)
    tokenizer, same = load_tokenizer(backbone), tasks[1]
    table = EncodedSplit(encoded(same, backbone, tmp_path))
    lines = (Path(str(same.source.path)) / "train.csv").read_text().splitlines()[1:]
    assert len(table) == len(lines)
    places = np.array([3, 0, 41])
    found = table.take(Draw(1, places), denominator=3)
    for place, ids, segments in zip(
        places, found.tokens["input_ids"], found.tokens["token_type_ids"], strict=True
    ):
        first, second, label = lines[place].split(",")
        expected = tokenizer(first, second, truncation="longest_first", max_length=16)
        assert ids.tolist() == expected["input_ids"]
        assert segments.tolist() == expected["token_type_ids"]
        assert table.labels[place] == int(label)
    assert found.ids.tolist() == places.tolist()


def test_cut_rows_are_counted_and_the_longer_text_is_cut_first(
    backbone: str, tmp_path: Path
) -> None:
    (tmp_path / "train.csv").write_text(
        "a,b,label\nthe cat sees the dog and the house,good,1\nbad,good,0\n"
    )
    task = Task.read(
        {
            "name": "t",
            "texts": ["a", "b"],
            "classes": ["no", "yes"],
            "source": {"path": str(tmp_path)},
        }
    )
    table = EncodedSplit(encoded(task, backbone, tmp_path / "cache", max_length=8))
    assert table.report.truncated == 1
    assert table.lengths.tolist() == [8, 5]
    good = load_tokenizer(backbone).convert_tokens_to_ids("good")
    assert good in table.take(Draw(0, np.array([0])), 1).tokens["input_ids"][0]


def test_the_second_time_nothing_is_tokenised(
    tasks: list[Task], backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = load_tokenizer(
        backbone
    )  # keeps its last truncation as a setting, which must not count as another tokenizer
    path = encode(
        tasks[0], "train", tokenizer=used, encoding=Plain(), max_length=16, cache=tmp_path
    )
    monkeypatch.setattr(encoding, "write_encoded_split", None)
    assert (
        encode(tasks[0], "train", tokenizer=used, encoding=Plain(), max_length=16, cache=tmp_path)
        == path
    )
    assert encoded(tasks[0], backbone, tmp_path) == path


def test_other_rows_lengths_and_classes_are_other_files(backbone: str, tmp_path: Path) -> None:
    fields = {
        "name": "t",
        "texts": ["a"],
        "classes": ["no", "yes"],
        "source": {"path": str(tmp_path)},
    }
    (tmp_path / "train.csv").write_text("a,label\ngood,1\n")
    first = encoded(Task.read(fields), backbone, tmp_path / "cache")
    longer = encoded(Task.read(fields), backbone, tmp_path / "cache", max_length=9)
    renamed = encoded(Task.read(fields | {"classes": ["a", "b"]}), backbone, tmp_path / "cache")
    (tmp_path / "train.csv").write_text("a,label\ngood,0\n")
    changed = encoded(Task.read(fields), backbone, tmp_path / "cache")
    assert len({first, longer, renamed, changed}) == 4


def test_a_refused_file_leaves_nothing_behind(backbone: str, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,label\ngood,1\nbad,7\n")
    task = Task.read(
        {"name": "t", "texts": ["a"], "classes": ["no", "yes"], "source": {"path": str(tmp_path)}}
    )
    with pytest.raises(UserError, match="row 2"):
        encoded(task, backbone, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_table_travels_to_another_process_as_its_path(
    tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    table = EncodedSplit(encoded(tasks[0], backbone, tmp_path), chosen=np.array([5, 2]))
    sent = pickle.dumps(table)
    assert len(sent) < 1000
    assert pickle.loads(sent).labels.tolist() == table.labels.tolist() == [1, 0]
