import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from hypothesis import given
from hypothesis.strategies import binary, lists, sampled_from, text, tuples

from mtl.data import hub
from mtl.data.checks import Example, checked_examples
from mtl.data.sources import open_split
from mtl.errors import UserError
from mtl.tasks import Task

PAIR: dict[str, Any] = {"name": "pair", "texts": ["a", "b"], "classes": ["no", "yes"]}
ONE: dict[str, Any] = {"name": "one", "texts": ["text"], "classes": ["no", "yes"]}


def examples(
    task: Task, split: str = "train", root: Path | None = None, labelled: bool = True
) -> list[Example]:
    return list(checked_examples(task, open_split(task, split, root), Counter(), labelled))


def task(fields: dict[str, Any], folder: Path, **source: Any) -> Task:
    return Task.read(fields | {"source": {"path": str(folder)} | source})


CELLS = text(alphabet=sampled_from('ab",\n\t é')).filter(
    lambda value: value.strip() != "" and "\r" not in value
)


@given(table=lists(tuples(CELLS, CELLS, sampled_from(["no", "yes"])), min_size=1, max_size=8))
def test_csv_files_are_read_as_written(
    table: list[tuple[str, str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    lines = ["a,b,label"] + [
        ",".join('"' + cell.replace('"', '""') + '"' for cell in line) for line in table
    ]
    (folder / "train.csv").write_bytes(("\n".join(lines) + "\n").encode())
    read = examples(task(PAIR, folder))
    assert [example.texts for example in read] == [(first, second) for first, second, _ in table]
    assert [example.label for example in read] == [
        ["no", "yes"].index(label) for *_, label in table
    ]


@pytest.mark.parametrize("gzipped", [False, True])
def test_json_lines_may_be_gzipped(tmp_path: Path, gzipped: bool) -> None:
    content = "".join(
        json.dumps({"text": f"t{n} é", "label": n % 2}) + "\n" for n in range(4)
    ).encode()
    name = "train.jsonl.gz" if gzipped else "train.jsonl"
    (tmp_path / name).write_bytes(gzip.compress(content) if gzipped else content)
    assert examples(task(ONE, tmp_path)) == [Example(n, (f"t{n} é",), n % 2) for n in range(4)]


def test_parquet_files_are_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    pa.parquet.write_table(
        pa.table({"text": ["x", "y"], "label": [1, 0]}), tmp_path / "train.parquet"
    )
    assert examples(task(ONE, tmp_path)) == [Example(0, ("x",), 1), Example(1, ("y",), 0)]


def test_a_local_data_set_in_the_hubs_layout_is_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    (tmp_path / "repo" / "data").mkdir(parents=True)
    table = pa.table({"sentence": ["x", "y"], "gold": [1, 0]})
    pa.parquet.write_table(table, tmp_path / "repo" / "data" / "train-00000-of-00001.parquet")
    hub = Task.read(
        ONE
        | {
            "source": {
                "hub": str(tmp_path / "repo"),
                "columns": {"text": "sentence", "label": "gold"},
            }
        }
    )
    assert examples(hub) == [Example(0, ("x",), 1), Example(1, ("y",), 0)]


@pytest.mark.parametrize("name", ["train.json", "train.xlsx", "train.arrow"])
def test_a_file_of_another_format_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    task = Task.read(ONE | {"source": {"path": str(tmp_path)}})
    with pytest.raises(UserError, match=f"{name}: unsupported ending. Supported: .jsonl"):
        open_split(task, "train")


@pytest.mark.parametrize("name", ["nyu-mll/../glue", "/data/nowhere", "https://hub.test/glue"])
def test_a_path_that_is_no_folder_is_not_looked_up_on_the_hub(name: str) -> None:
    with pytest.raises(UserError, match=r"neither a data set's name on the Hub, .* source\.path"):
        open_split(Task.read(ONE | {"source": {"hub": name}}), "train")


def test_an_unbalanced_quote_in_a_glue_file_does_not_join_rows(tmp_path: Path) -> None:
    (tmp_path / "MRPC").mkdir()
    lines = [
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        '1\t1\t2\tHe said "no\tHe declined',
        '0\t3\t4\tA\t"B',
    ]
    (tmp_path / "MRPC" / "train.tsv").write_text("\n".join(lines) + "\n")
    mrpc = Task.read(
        {"name": "mrpc", "texts": ["sentence1", "sentence2"], "classes": ["no", "yes"]}
        | {"source": {"hub": "nyu-mll/glue", "config": "mrpc", "format": "glue"}}
    )
    assert examples(mrpc, root=tmp_path) == [
        Example(0, ('He said "no', "He declined"), 1),
        Example(1, ("A", '"B'), 0),
    ]


def test_only_the_test_file_of_cola_has_a_header_in_the_glue_download(tmp_path: Path) -> None:
    (tmp_path / "CoLA").mkdir()
    (tmp_path / "CoLA" / "train.tsv").write_text("gj04\t1\t\tIt rains.\ngj04\t0\t*\tRains it.\n")
    (tmp_path / "CoLA" / "dev.tsv").write_text("gj04\t1\t\tSo it goes.\n")
    (tmp_path / "CoLA" / "test.tsv").write_text("index\tsentence\n0\tWho knows?\n")
    cola = Task.read(
        {"name": "cola", "texts": ["sentence"], "classes": ["no", "yes"]}
        | {"source": {"hub": "nyu-mll/glue", "config": "cola", "format": "glue"}}
    )
    assert [example.label for example in examples(cola, root=tmp_path)] == [1, 0]
    assert examples(cola, "validation", tmp_path) == [Example(0, ("So it goes.",), 1)]
    assert examples(cola, "test", tmp_path, labelled=False) == [Example(0, ("Who knows?",), None)]


def test_the_folders_of_lm_bff_are_read(tmp_path: Path) -> None:
    draw = tmp_path / "mr" / "16-13"
    draw.mkdir(parents=True)
    (draw / "train.csv").write_text('0,"dull , very"\n1,fine\n')
    (draw / "dev.csv").write_text("1,good\n")
    (tmp_path / "mr" / "test.csv").write_text("0,bad\n")
    mr = task(ONE, draw, format="lmbff")
    assert examples(mr) == [Example(0, ("dull , very",), 0), Example(1, ("fine",), 1)]
    assert examples(mr, "validation") == [Example(0, ("good",), 1)]
    assert examples(mr, "test") == [Example(0, ("bad",), 0)]


def test_one_file_in_mft_format_holds_several_tasks(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text('a "quote\tSST-2\t0\nb\tmr\t1\nc\tSST-2\t1\n')
    sst2 = task(ONE, tmp_path, format="mft", where={"domain": "SST-2"})
    assert examples(sst2) == [Example(0, ('a "quote',), 0), Example(2, ("c",), 1)]


def test_files_of_the_cs224n_course_are_tab_separated_with_quotes(tmp_path: Path) -> None:
    (tmp_path / "quora-dev.csv").write_text(
        '\tid\tsentence1\tsentence2\tis_duplicate\n7\tff\t"Is ""x"" so?"\tIs it?\t1.0\n'
    )
    quora = Task.read(
        {
            "name": "q",
            "texts": ["sentence1", "sentence2"],
            "label": "is_duplicate",
            "classes": ["no", "yes"],
        }
        | {
            "source": {
                "path": str(tmp_path),
                "format": "cs224n",
                "files": {"validation": "quora-dev.csv"},
            }
        }
    )
    assert examples(quora, "validation") == [Example(0, ('Is "x" so?', "Is it?"), 1)]


def test_the_folder_under_a_root_is_found_ignoring_case_and_punctuation(tmp_path: Path) -> None:
    (tmp_path / "STS-B").mkdir()
    (tmp_path / "STS-B" / "train.jsonl").write_text('{"a": "x", "b": "y", "label": 2.5}\n')
    stsb = Task.read({"name": "stsb", "texts": ["a", "b"], "range": [0, 5]})
    assert examples(stsb, root=tmp_path) == [Example(0, ("x", "y"), 2.5)]


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        ("text,label\nfine,yess\n", ["row 1", "'yess'", "['no', 'yes']", "Did you mean 'yes'?"]),
        ("text,label\nfine,yes\nx,2\n", ["row 2", "'2'"]),
        ("text,lable\nfine,yes\n", ["no column 'label'", "Did you mean 'lable'?"]),
        ("txt,label\nfine,yes\n", ["no column 'text'", "'txt'"]),
        ("text,label\nfine,yes\n  ,no\n", ["row 2", "'text' is empty", "drop: [incomplete]"]),
        ("text,label\nfine,\n", ["row 1", "no label"]),
        ("text,label\nfine,-1\n", ["row 1", "no label"]),
        ("text,label\n", ["has no rows"]),
        ("", ["the file is empty"]),
        ("text;label\nfine;yes\n", ["separated by semicolons", ".csv files need commas"]),
        ("text,label\nfine\n", ["row 1: 1 field, but there are 2 columns"]),
        ('text,label\nfine,yes\n"bad,no\nodd,no\n', ["row 2", "opens at line 3 is not closed"]),
        ("text,label\nfine,yes\r\nbad\rno,no\n", ["row 2", "a carriage return within a field"]),
        ("text,label\nfine,yes,really\n", ["row 1", "3 fields", "2 columns"]),
        ('text,label\n"fine,yes\n', ["line", "not CSV"]),
    ],
)
def test_an_error_names_the_file_the_row_and_the_value(
    tmp_path: Path, content: str, messages: list[str]
) -> None:
    (tmp_path / "train.csv").write_text(content)
    with pytest.raises(UserError) as refused:
        examples(task(ONE, tmp_path))
    for message in ["train.csv", *messages]:
        assert message in str(refused.value)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("often", "not a number"),
        ("5.1", "outside"),
        ("nan", "not a number"),
        ("1_0", "not a number"),
        ("-0.1", "[0, 5]"),
    ],
)
def test_a_target_that_is_no_number_or_out_of_range_is_refused(
    tmp_path: Path, target: str, message: str
) -> None:
    (tmp_path / "train.csv").write_text(f"text,label\nfine,2\nodd,{target}\n")
    with pytest.raises(UserError, match="row 2") as refused:
        examples(
            Task.read(
                {
                    "name": "near",
                    "texts": ["text"],
                    "range": [0, 5],
                    "source": {"path": str(tmp_path)},
                }
            )
        )
    assert message in str(refused.value)


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(b"text,label\nfine,yes\ncaf\xe9,no\n")
    with pytest.raises(UserError, match=r"train.csv, line 3: not UTF-8"):
        examples(task(ONE, tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.csv", "text,label\nfine,yes\n".encode("utf-16"), "is UTF-16; save the file as"),
        ("train.csv", "text,label\nfine,yes\n".encode("utf-16-be"), "it holds zero bytes"),
        ("train.jsonl", '{"text": "x", "label": 1}\n'.encode("utf-32"), "is UTF-32"),
        ("train.csv", b"text,label\rfine,yes\rbad,no\r", "as on old Macs"),
        ("train.tsv", b"text\tlabel\rfine\tyes\r", "as on old Macs"),
        ("train.jsonl", b'[{"text": "x", "label": 1}]', "the file holds a JSON array"),
        ("train.jsonl", b'\n[\n  {"text": "x", "label": 1}\n]', "the file holds a JSON array"),
        (
            "train.jsonl",
            b'{"text": "x", "label": 1}\n{"text": "x", "label": 1, "label": 0}\n',
            "row 2: the key 'label' occurs twice",
        ),
        (
            "train.jsonl",
            b'{"text": "x", "label": 1, "a": [{"b": 1, "b": 2}]}\n',
            "row 1: the key 'b' occurs twice",
        ),
        ("train.jsonl", b'{\n"text": "x"\n}\n', "write each object on one line"),
        ("train.csv", "text,label\n\u00a0\u200b,yes\n".encode(), "row 1: column 'text' is empty"),
        ("train.jsonl", b"text,label\nfine,1\n", 'one object, such as {"text": ...}'),
        (
            "train.jsonl",
            b'{"text": "a\\u0000b", "label": 1}\n',
            "row 1: column 'text' holds a zero",
        ),
        ("train.jsonl", b'{"text": "\\ud83d", "label": 1}\n', "row 1: column 'text' is not UTF-8"),
        ("train.jsonl", b'{"text": {"x": 1}, "label": 1}\n', "which is not text; write one text"),
        ("train.jsonl", b'{"text": ["x", "y z"], "label": 1}\n', "word 2 is 'y z'; a word is text"),
        ("train.csv", b'{"text": "x", "label": 1}\n', "give its name the ending .jsonl"),
        ("train.csv", b"text,label\nfi\0ne,yes\n", "row 1: column 'text' holds a zero byte"),
        (
            "train.csv",
            gzip.compress(b"text,label\nfine,yes\n", mtime=0),
            "is gzipped; give its name",
        ),
        ("train.csv", b"PK\x03\x04\x14\0\0", "a ZIP archive or a spreadsheet"),
        ("train.csv", b"PAR1\x15\x04", "is a Parquet file"),
        ("train.csv", b"<!DOCTYPE html>\n", "is a web page"),
        ("train.csv.gz", b"text,label\nfine,yes\n", "not a gzip file, although its name"),
        ("train.tsv", b"text\ttext\tlabel\na\tb\tyes\n", "two columns are called 'text'"),
        ("train.parquet", b"text,label\nfine,yes\n", "not a Parquet file, although its name"),
        (
            "train.parquet",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n",
            "fetch the file with `git lfs pull`",
        ),
    ],
)
def test_a_file_in_another_format_is_named_for_what_it_is(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=re.escape(name)) as refused:
        examples(task(ONE, tmp_path))
    assert message in str(refused.value)


FILE_PARTS = [
    "text",
    "label",
    "fine",
    "yes",
    ",",
    "\t",
    "\n",
    "\r",
    '"',
    "{",
    "}",
    ":",
    "[",
    "\\u0000",
]


@given(
    name=sampled_from(["train.csv", "train.tsv", "train.jsonl", "train.parquet", "train.csv.gz"]),
    content=binary(max_size=40)
    | lists(sampled_from(FILE_PARTS), max_size=12).map("".join).map(str.encode),
)
def test_a_file_is_read_or_refused_by_name(
    name: str, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / name).write_bytes(content)
    try:
        assert examples(task(ONE, folder))
    except UserError as error:
        assert name in str(error)


def test_a_declared_file_needs_an_ending_that_gives_its_format(tmp_path: Path) -> None:
    (tmp_path / "train.dat").write_text("text,label\nfine,yes\n")
    with pytest.raises(UserError, match=r"train\.dat: the ending gives the format"):
        examples(task(ONE, tmp_path, files={"train": "train.dat"}))
    (tmp_path / "TRAIN.CSV").write_text("text,label\nfine,yes\n")
    assert len(examples(task(ONE, tmp_path, files={"train": "TRAIN.CSV"}))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "\ufefftext,label\nfine,yes\n",
        "\ufeff\ufefftext,label\nfine,yes\n",
        "text,label\r\nfine,yes\r\n",
    ],
)
def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "train.csv").write_bytes(text.encode())
    assert examples(task(ONE, tmp_path)) == [Example(0, ("fine",), 1)]


@pytest.mark.parametrize("files", [{}, {"train": "train.csv"}])
def test_a_folder_named_like_the_file_is_called_a_folder(
    tmp_path: Path, files: dict[str, str]
) -> None:
    (tmp_path / "train.csv").mkdir()
    with pytest.raises(UserError, match=r"train\.csv:? is a folder"):
        examples(task(ONE, tmp_path, files=files))


def test_a_file_that_cannot_be_opened_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.csv").symlink_to("nowhere.csv")
    with pytest.raises(UserError, match=r"train\.csv is a link to a file that does not exist"):
        examples(task(ONE, tmp_path))
    (tmp_path / "file.csv").write_text("text,label\nfine,yes\n")
    with pytest.raises(UserError, match=r"file\.csv \(a file; give its folder\)"):
        examples(task(ONE, tmp_path / "file.csv"))

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("mtl.data.sources.file_digest", refuse)
    with pytest.raises(UserError, match=r"file\.csv: cannot be read: Permission denied"):
        examples(task(ONE, tmp_path, files={"train": "file.csv"}))


def test_a_split_whose_rows_are_all_dropped_is_refused_with_their_number(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\n,yes\n,no\n")
    with pytest.raises(UserError, match=r"no usable rows \(2 incomplete dropped\)"):
        examples(task(ONE | {"drop": ["incomplete"]}, tmp_path))


def test_a_truncated_gzip_file_is_refused(tmp_path: Path) -> None:
    compressed = gzip.compress(b'{"text": "x", "label": 1}\n' * 50)
    (tmp_path / "train.jsonl.gz").write_bytes(compressed[:-12])
    with pytest.raises(UserError, match="damaged or truncated"):
        examples(task(ONE, tmp_path))


def test_five_faults_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\n" + "x,?\n" * 8)
    with pytest.raises(UserError, match=r"8 of 8 rows") as refused:
        examples(task(ONE, tmp_path))
    assert "and 3 more" in str(refused.value)


def test_known_faults_are_dropped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\nx,1\n,0\ny,-1\n")
    dropped: Counter[str] = Counter()
    tolerant = task(ONE | {"drop": ["incomplete", "unlabelled"]}, tmp_path)
    assert list(checked_examples(tolerant, open_split(tolerant, "train"), dropped)) == [
        Example(0, ("x",), 1)
    ]
    assert dropped == {"incomplete": 1, "unlabelled": 1}


def test_the_error_for_a_missing_split_lists_the_files(tmp_path: Path) -> None:
    (tmp_path / "trian.csv").write_text("text,label\nx,1\n")
    with pytest.raises(UserError, match=r"it holds trian\.csv"):
        examples(task(ONE, tmp_path))


def test_a_key_that_a_row_of_json_lines_leaves_out_is_an_empty_column(tmp_path: Path) -> None:
    rows = [{"label": 1}, {"text": "x", "label": 1}, {"text": "y"}]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match="2 of 3 rows cannot be used") as refused:
        examples(task(ONE, tmp_path))
    assert "row 1: column 'text' is empty (None)" in str(refused.value)
    assert "row 3: no label (None)" in str(refused.value)
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps({"text": "x"}) for _ in rows))
    with pytest.raises(UserError, match="row 1: there is no column 'label'"):
        examples(task(ONE, tmp_path))


@pytest.mark.parametrize("unreachable", ["https://hub.test does not answer", None])
def test_nothing_is_requested_from_a_hub_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, unreachable: str | None
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "cached_hub_error", lambda: unreachable)
    seen = []

    def load(*_: Any, **__: Any) -> None:
        seen.append(constants.HF_HUB_OFFLINE)
        raise ConnectionError("Couldn't reach it")

    monkeypatch.setattr("datasets.load_dataset", load)
    task = Task.read(ONE | {"source": {"hub": "no-such/data"}})
    with pytest.raises(UserError, match="cannot load no-such/data.*Couldn't reach") as refused:
        open_split(task, "train")
    assert (str(unreachable) in str(refused.value)) == bool(unreachable)
    assert seen == [unreachable is not None] and not constants.HF_HUB_OFFLINE


def test_two_files_for_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("train.csv", "train.tsv"):
        (tmp_path / name).write_text("text,label\n")
    with pytest.raises(UserError, match=r"train\.csv and train\.tsv"):
        examples(task(ONE, tmp_path))


@pytest.mark.parametrize("label", ["yes", "1", "1.0", 1, 1.0])
def test_a_class_is_given_by_name_or_index(tmp_path: Path, label: object) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "x", "label": label}) + "\n")
    assert examples(task(ONE, tmp_path))[0].label == 1


def test_a_json_boolean_is_not_a_class_index(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "x", "label": true}\n')
    with pytest.raises(UserError, match="row 1: label True is not one of the classes"):
        examples(task(ONE, tmp_path))
    aliased = task(ONE, tmp_path, labels={"True": "yes"})
    assert examples(aliased) == [Example(0, ("x",), 1)]


def test_a_column_that_mixes_names_and_indices_is_refused_at_the_first_mixture(
    tmp_path: Path,
) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,yes\nb,1\n" + "c,0\n" * 9)
    with pytest.raises(UserError, match=r"row 2: the label column mixes .*'yes'.*'1'") as refused:
        examples(task(ONE, tmp_path))
    assert "more" not in str(refused.value)


@pytest.mark.parametrize(
    ("classes", "labels", "indices"),
    [
        (["1", "0"], ["1.0", "0.0"], [0, 1]),
        (["1", "2", "3"], ["1.0", "2.0"], [0, 1]),
        (["Favor", "Against", "None"], ["Favor", "Against", "None"], [0, 1, 2]),
        (["-1", "0", "1"], ["-1", "0", "1"], [0, 1, 2]),
        (["+", "-"], ["-", "+"], [1, 0]),
    ],
)
def test_declared_classes_are_labels_although_they_look_like_indices_or_missing_values(
    tmp_path: Path, classes: list[str], labels: list[str], indices: list[int]
) -> None:
    (tmp_path / "train.csv").write_text(
        "text,label\n" + "".join(f"x,{label}\n" for label in labels)
    )
    strict = task(ONE | {"classes": classes, "drop": ["unlabelled"]}, tmp_path)
    assert [example.label for example in examples(strict)] == indices
