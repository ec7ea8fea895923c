import pickle
from pathlib import Path

import numpy as np
import pytest

from mtl.data import encoded_files, encoded_writing
from mtl.data.encoded_files import encode
from mtl.data.encoded_split import EncodedSplit
from mtl.data.encoding import Plain
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
def test_examples_are_read_back_as_the_tokenizer_encodes_them(
    tasks: list[Task], backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(encoded_writing, "CHUNK", chunk)
    tokenizer, same = load_tokenizer(backbone), tasks[1]
    split = EncodedSplit(encoded(same, backbone, tmp_path))
    lines = (Path(str(same.source.path)) / "train.csv").read_text().splitlines()[1:]
    assert len(split) == len(lines)
    indices = np.array([3, 0, 41])
    examples = split.take(Draw(1, indices), denominator=3)
    for index, ids, segments in zip(
        indices, examples.tokens["input_ids"], examples.tokens["token_type_ids"], strict=True
    ):
        first, second, label = lines[index].split(",")
        expected = tokenizer(first, second, truncation="longest_first", max_length=16)
        assert ids.tolist() == expected["input_ids"]
        assert segments.tolist() == expected["token_type_ids"]
        assert split.labels[index] == int(label)
    assert examples.ids.tolist() == indices.tolist()


def test_truncated_examples_are_counted_and_the_longer_text_is_cut_first(
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
    split = EncodedSplit(encoded(task, backbone, tmp_path / "cache", max_length=8))
    assert split.report.truncated == 1
    assert split.lengths.tolist() == [8, 5]
    good = load_tokenizer(backbone).convert_tokens_to_ids("good")
    assert good in split.take(Draw(0, np.array([0])), 1).tokens["input_ids"][0]


def test_a_cached_split_is_not_tokenized_again(
    tasks: list[Task], backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tokenizer keeps the truncation of its last call, which must not make it another tokenizer.
    used = load_tokenizer(backbone)
    path = encode(
        tasks[0], "train", tokenizer=used, encoding=Plain(), max_length=16, cache=tmp_path
    )
    monkeypatch.setattr(encoded_files, "write_encoded_split", None)
    assert (
        encode(tasks[0], "train", tokenizer=used, encoding=Plain(), max_length=16, cache=tmp_path)
        == path
    )
    assert encoded(tasks[0], backbone, tmp_path) == path


def test_other_examples_lengths_and_classes_have_other_files(backbone: str, tmp_path: Path) -> None:
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


def test_a_refused_file_leaves_no_file_in_the_cache(backbone: str, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,label\ngood,1\nbad,7\n")
    task = Task.read(
        {"name": "t", "texts": ["a"], "classes": ["no", "yes"], "source": {"path": str(tmp_path)}}
    )
    with pytest.raises(UserError, match="row 2"):
        encoded(task, backbone, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_encoded_split_is_pickled_as_its_path(
    tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    split = EncodedSplit(encoded(tasks[0], backbone, tmp_path), chosen=np.array([5, 2]))
    pickled = pickle.dumps(split)
    assert len(pickled) < 1000
    assert pickle.loads(pickled).labels.tolist() == split.labels.tolist() == [1, 0]
