import csv
import gzip
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml
from torch import Tensor

import mtl
from mtl.__main__ import main
from mtl.data.sources import Record, Unreadable, json_lines
from mtl.errors import UserError
from mtl.inference.engine import InferenceEngine
from mtl.tasks import Prediction
from mtl.tasks import Task
from tests.conftest import save_backbone

QUICK = [
    "--trainer.accelerator",
    "cpu",
    "--trainer.enable_progress_bar",
    "false",
    "--trainer.max_epochs",
    "1",
]
METHODS = {
    "MultiHead": [],
    "MultiHeadSAN": ["--model.heads", "san"],
    "Joint": [],
    "PALs": [],
    "CAMTL": [],
    "LoRA": ["--model.per_task", "true"],
    "Separate": [],
    "PromptBasedFineTuning": ["--data.encoding", "Prompted"],
}


@pytest.fixture(scope="module")
def runs(
    task_files: list[Path],
    backbone: str,
    masked_backbone: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Path]:
    """A trained and tested run of a method, made once."""
    folder = tmp_path_factory.mktemp("runs")

    def run(name: str) -> Path:
        out, method = folder / name, name.removesuffix("SAN")
        if not out.exists():
            model = masked_backbone if method == "PromptBasedFineTuning" else backbone
            files = [file for file in task_files if method != "Joint" or file.stem != "near"]
            cache = [
                "--data.cache",
                str(folder / "cache"),
                "--data.max_length",
                "16",
                "--model.lr",
                "1e-2",
            ]
            words = [f"--tasks+={file}" for file in files] + [
                "--backbone",
                model,
                "--model",
                method,
                *METHODS[name],
                *cache,
            ]
            main(["fit", *words, "--out", str(out), *QUICK])
            main(["test", "--ckpt_path", str(out), "--out", str(out), *QUICK[:4]])
        return out

    return run


@pytest.fixture
def run(runs: Callable[[str], Path], in_tmp: Path) -> Path:
    return runs("MultiHead")


def answered(*words: str, status: int = 0) -> None:
    """Runs the command and holds its exit status against what is expected."""
    if status:
        with pytest.raises(SystemExit) as done:
            main(["predict", *words, "--device", "cpu"])
        assert done.value.code == status
    else:
        main(["predict", *words, "--device", "cpu"])


def lines(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def rows_of(task_files: list[Path], name: str) -> list[dict[str, str]]:
    """A toy task's test rows as its file has them."""
    file = next(file for file in task_files if file.stem == name)
    with (Path(str(Task.read(file).source.path)) / "test.csv").open() as rows:
        return list(csv.DictReader(rows))


def write_jsonl(path: str, rows: list[Any]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("method", METHODS)
def test_answers_are_those_of_the_test_for_all_tasks_at_once(
    method: str, runs: Callable[[str], Path], task_files: list[Path], in_tmp: Path
) -> None:
    folder = runs(method)
    every = {name: rows_of(task_files, name) for name in ("mood", "same", "near")}
    # The rows of three tasks beside one another: `same` and `near` read the same pairs, asked of both.
    for pairs in ("same", "near"):
        table = [{**one, **two} for one, two in zip(every["mood"], every[pairs], strict=False)]
        write_jsonl("input.jsonl", table)
        answered(
            "--ckpt_path",
            str(folder),
            "--input",
            "input.jsonl",
            "--output",
            "out.jsonl",
            "--batch_size",
            "4",
        )
        found = lines("out.jsonl")
        assert [line["row"] for line in found] == list(range(len(table)))
        for name in ("mood", pairs):
            if not (expected := folder / "predictions/test" / f"{name}.jsonl").exists():
                continue  # Joint has no regression
            for line, tested in zip(found, lines(expected), strict=False):
                assert line["row"] == tested["row"]
                if name == "near":
                    assert line[name]["prediction"] == pytest.approx(tested["prediction"], abs=1e-6)
                else:
                    assert line[name]["prediction"] == tested["prediction"]
                    assert line[name]["probabilities"] == pytest.approx(
                        tested["probabilities"], abs=1e-6
                    )


@pytest.mark.parametrize(
    ("method", "passes"),
    [
        ("MultiHead", 6),
        ("MultiHeadSAN", 6),
        ("Joint", 6),
        ("PALs", 12),
        ("CAMTL", 12),
        ("Separate", 12),
    ],
)
def test_a_shared_encoder_sees_a_pair_once_and_another_once_for_each_task(
    method: str, passes: int, runs: Callable[[str], Path], task_files: list[Path], in_tmp: Path
) -> None:
    trained = mtl.load(runs(method), device="cpu")
    words = next(
        part for name, part in trained.module.named_modules() if name.endswith("word_embeddings")
    )
    seen: list[int] = []
    encoders = [
        part for name, part in trained.module.named_modules() if name.endswith("word_embeddings")
    ]
    for encoder in encoders or [words]:
        encoder.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    pairs = [("the cat", "a dog sees it"), ("good film", "bad")] * 3
    found = trained.predict(pairs)
    assert set(found) == {"same", "near"} & set(trained.tasks)
    assert sum(seen) == (passes if len(found) == 2 else 6)


def test_python_and_the_command_say_the_same(run: Path, task_files: list[Path]) -> None:
    trained = mtl.load(run, device="cpu")
    assert list(trained.tasks) == ["mood", "same", "near"]
    assert (
        trained.metrics["validation"]["mean"]
        == json.loads((run / "metrics.json").read_text())["validation"]["mean"]
    )
    texts = [row["text"] for row in rows_of(task_files, "mood")]
    tested = lines(run / "predictions/test/mood.jsonl")
    found = trained.predict(texts, task="mood", batch_size=3)
    for answer, line in zip(found, tested, strict=True):
        assert isinstance(answer, Prediction) and answer.probabilities is not None
        assert answer.value == line["prediction"]
        assert answer.probabilities == pytest.approx(line["probabilities"], abs=1e-6)
    assert trained.predict(texts) == {"mood": trained.predict(texts, task="mood")}
    pairs = trained.predict([["a cat", "a dog"]])
    assert pairs["near"][0].probabilities is None
    assert trained.predict([], task="mood") == []


@pytest.mark.parametrize(
    ("texts", "task", "message"),
    [
        (["good"], "mod", "there is no task 'mod'; .* Did you mean 'mood'?"),
        ([("good", "bad")], "mood", "texts are pairs, and task 'mood' reads single texts"),
        (["good"], "same", "texts are single texts, and task 'same' reads pairs"),
        (["good", " "], "mood", r"texts\[1\] is empty"),
        (["good", None], None, r"texts\[1\] is empty"),
        ([("good", "")], None, r"texts\[0\]\[1\] is empty"),
        (["good", 5], None, r"texts\[1\] holds 5, which is neither a text nor a pair"),
        ([("good", 5)], None, r"texts\[0\]\[1\] holds 5, which is not text"),
        (["good", ("good", "bad")], None, r"texts\[1\] is a pair and texts\[0\] a single text"),
        ("good", "mood", "texts is one text, 'good'; give a list"),
        (["\udcff"], "mood", r"texts\[0\] is not UTF-8"),
    ],
)
def test_python_refuses_with_the_place_and_the_remedy(
    run: Path, texts: Any, task: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        mtl.load(run, device="cpu").predict(texts, task=task)


def test_a_device_that_is_not_there_is_said(run: Path) -> None:
    with pytest.raises(UserError, match="no such kind of device"):
        mtl.load(run, device="cup")
    with pytest.raises(UserError, match="GPUs here"):
        mtl.load(run, device="cuda:99")


def test_every_format_gives_the_same_answers(run: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    texts = ['the "good", cat', "bad film é", "slow and red"]
    write_jsonl("in.jsonl", [{"text": text} for text in texts])
    with open("in.csv", "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["id", "text"], *enumerate(texts)])
    Path("in.tsv").write_text("\n".join(["text", *texts]) + "\n")
    Path("in.txt").write_text("\r\n".join(texts))
    Path("in.jsonl.gz").write_bytes(gzip.compress(Path("in.jsonl").read_bytes()))
    Path("in.data").write_bytes(Path("in.csv").read_bytes())
    pa.parquet.write_table(pa.table({"text": texts}), "in.parquet")
    for name in ("in.jsonl", "in.csv", "in.tsv", "in.txt", "in.jsonl.gz", "in.parquet"):
        answered("--ckpt_path", str(run), "--input", name, "--output", f"{name}.out.jsonl")
        assert lines(f"{name}.out.jsonl") == lines("in.jsonl.out.jsonl"), name
    answered(
        "--ckpt_path", str(run), "--input=in.data", "--format", "csv", "--output", "data.jsonl"
    )
    assert lines("data.jsonl") == lines("in.jsonl.out.jsonl")


@pytest.mark.parametrize(
    "content",
    [
        "the cat\ngood film\n",
        '{"text": "the cat"}\n{"text": "good film"}\n',
        "\ufeffthe cat\ngood film",
    ],
)
def test_standard_input_is_lines_of_text_or_of_json(
    content: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    capsys.readouterr()
    answered("--ckpt_path", str(run), "--input", "-")
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    expected = mtl.load(run, device="cpu").predict(["the cat", "good film"], task="mood")
    assert [
        (line["mood"]["prediction"], line["mood"]["probabilities"]) for line in found
    ] == expected
    assert "2 rows" in err
    assert "left out: task same, near: standard input has no " in err


def test_csv_has_a_column_for_each_answer(run: Path) -> None:
    write_jsonl(
        "in.jsonl",
        [
            {"text": "good", "first": "a cat", "second": "the dog"},
            {"text": "b", "first": "c", "second": "d"},
        ],
    )
    answered("--ckpt_path", str(run), "--input", "in.jsonl", "--output", "deep/out.csv")
    answered("--ckpt_path", str(run), "--input", "in.jsonl", "--output", "out.jsonl")
    with open("deep/out.csv", newline="") as file:
        table = list(csv.DictReader(file))
    columns = [
        "row",
        "mood",
        "mood.bad",
        "mood.good",
        "same",
        "same.no",
        "same.maybe",
        "same.yes",
        "near",
    ]
    assert list(table[0]) == columns
    for cells, line in zip(table, lines("out.jsonl"), strict=True):
        assert int(cells["row"]) == line["row"]
        assert cells["mood"] == line["mood"]["prediction"]
        assert float(cells["same.maybe"]) == line["same"]["probabilities"]["maybe"]
        assert float(cells["near"]) == line["near"]["prediction"]
    assert not list(Path().rglob("*.part"))


def test_columns_of_other_names_are_mapped(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("in.jsonl", [{"review": "good", "a": "x", "b": "y"}])
    asked = ["--ckpt_path", str(run), "--input", "in.jsonl", "--output", "out.jsonl"]
    answered(*asked, status=2)
    assert (
        "has no column 'text'; task same, near: in.jsonl has no column 'first'. Its columns are 'review', 'a', 'b'"
        in capsys.readouterr().err
    )
    answered(*asked, "--columns", "text=review")
    assert set(lines("out.jsonl")[0]) == {"row", "mood"}
    answered(*asked, "--columns", "first=a", "second=b", "--task", "near")
    assert set(lines("out.jsonl")[0]) == {"row", "near"}
    answered(*asked, "--columns", "review=text", status=2)
    assert "Did you mean 'text=review'?" in capsys.readouterr().err


def test_a_column_may_be_called_as_in_the_tasks_own_files(
    data_root: Path, backbone: str, in_tmp: Path
) -> None:
    task = {"name": "mood", "texts": ["sentence"], "classes": ["bad", "good"]}
    source = {"path": str(data_root / "mood"), "columns": {"sentence": "text"}}
    Path("mood.yaml").write_text(yaml.safe_dump(task | {"source": source}))
    main(["fit", "--tasks+=mood.yaml", "--backbone", backbone, "--out", "run", *QUICK])
    for column in ("sentence", "text"):
        write_jsonl("in.jsonl", [{column: "good"}])
        answered("--ckpt_path", "run", "--input", "in.jsonl", "--output", f"{column}.jsonl")
    assert lines("sentence.jsonl") == lines("text.jsonl")


BAD = {
    "in.jsonl": (
        b'{"text": "good"}\n{"text": "ba\n{"text": " "}\n[1]\n{"text": 5}\n{"txt": "x"}\n{"text": "\xff"}\n'
        b'{"text": "x", "n": ' + b"9" * 5000 + b'}\n{"text": "bad"}\n',
        [0, 8],
    ),
    "in.csv": (b'text,id\ngood,1\nbad\n"b"ad,2\n,3\n\xff,4\n5,5\nbad,6\n', [0, 5, 6]),
    "in.tsv": (b"text\tid\ngood\t1\nbad\n \t2\nbad\t3\n", [0, 3]),
    "in.txt": (b"good\n\nbad\n", [0, 2]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_reported_and_does_not_lose_the_others(
    name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, good = BAD[name]
    Path(name).write_bytes(content)
    asked = ["--ckpt_path", str(run), "--input", name, "--output", "out.jsonl"]
    answered(*asked, status=2)
    assert f"{name}, row 1 (counted from 0): " in capsys.readouterr().err
    assert not list(Path().glob("out*"))
    answered(*asked, "--on_error", "skip", "--window", "2", status=1)
    assert [line["row"] for line in lines("out.jsonl")] == good
    err = capsys.readouterr().err
    rows = good[-1] + 1
    for number in set(range(rows)) - set(good):
        assert f"{name}, row {number} (counted from 0): " in err
    assert f"{rows - len(good)} of {rows} rows were left out" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input", "nowhere.csv"], "nowhere.csv: there is no such file"),
        (["--input", "in.doc"], "the ending '.doc' is not known"),
        (["--input", "in.jsonl", "--task", "mod"], "Did you mean 'mood'?"),
        (["--input", "in.jsonl", "--task", "same"], "task same: in.jsonl has no column 'first'"),
        (["--input", "in.jsonl", "--output", "out.xml"], "none of .jsonl, .csv"),
        (["--input", "in.jsonl", "--output", "./in.jsonl"], "that is the input"),
        (["--input", "in.jsonl", "--output", "folder.csv"], "that is a folder; give a file"),
        (["--input", "in.jsonl", "--output", "in.doc/out.csv"], "cannot be written"),
        (["--input", "folder.csv"], "that is a folder; give a file"),
        (
            ["--input", "semicolons.csv"],
            "; semicolons stand between them: save the file with commas",
        ),
        (["--input", "tabs.csv"], "save the file with commas, or say --format tsv"),
        (["--input", "wide.csv"], "; this is UTF-16: save the file as UTF-8"),
        (["--input", "empty.csv"], "there are no rows"),
        (["--input", "empty.jsonl"], "there are no rows"),
        (["--input", "in.jsonl", "--format", "parquet"], "not Parquet"),
        (
            ["--input", "in.jsonl", "--columns", "text"],
            "write the task's column, =, and the input's",
        ),
        (["--input", "in.jsonl", "--window", "0"], "1 or more"),
        (["--input", "cut.csv.gz"], "damaged or cut off"),
    ],
)
def test_a_mistake_gets_one_message(
    words: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl("in.jsonl", [{"text": "good"}])
    Path("empty.csv").write_text("text\n")
    Path("empty.jsonl").write_text("")
    Path("in.doc").write_text("good")
    Path("folder.csv").mkdir()
    Path("semicolons.csv").write_text("text;id\ngood;1\n")
    Path("tabs.csv").write_text("text\tid\ngood\t1\n")
    Path("wide.csv").write_text("text,id\ngood,1\n", encoding="utf-16")
    Path("cut.csv.gz").write_bytes(gzip.compress(b"text\n" + b"good\n" * 100)[:-12])
    answered("--ckpt_path", str(run), *words, status=2)
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            'text,id\ngood,1\n"bad,2\ngood,3\n"bad",4\ngood,5\n',
            "lines 3 to 5: ',' expected after '\"'",
        ),
        ('text,id\ngood,1\n"bad,2\ngood,3\n', "lines 3 to 4: unexpected end of data"),
    ],
)
def test_of_rows_that_nobody_can_tell_apart_those_before_are_answered(
    content: str, message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.csv").write_text(content)
    asked = ["--ckpt_path", str(run), "--input", "in.csv", "--output", "out.jsonl"]
    answered(*asked, status=2)
    assert message in capsys.readouterr().err and not Path("out.jsonl").exists()
    answered(*asked, "--on_error", "skip", status=1)
    err = capsys.readouterr().err
    assert message in err and "so nothing after it is read" in err
    assert [line["row"] for line in lines("out.jsonl")] == [0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('"te"xt,id\ngood,1\n', "line 1: ',' expected"),
        ("text,text\ngood,bad\n", "two columns are called 'text'"),
    ],
)
def test_a_first_line_that_gives_no_columns_stops_the_command(
    content: str, message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.csv").write_text(content)
    answered(
        "--ckpt_path",
        str(run),
        "--input",
        "in.csv",
        "--output",
        "out.jsonl",
        "--on_error",
        "skip",
        status=2,
    )
    assert message in capsys.readouterr().err
    assert not Path("out.jsonl").exists()


def test_tables_that_are_damaged_or_ambiguous_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pa.table({"text": [f"good {number} {number * 7919}" for number in range(5000)]})
    pa.parquet.write_table(rows, "in.parquet", compression="snappy")
    whole = bytearray(Path("in.parquet").read_bytes())
    whole[200:800] = bytes(byte ^ 0xFF for byte in whole[200:800])
    Path("in.parquet").write_bytes(whole)
    pa.parquet.write_table(
        pa.Table.from_arrays([pa.array(["good"]), pa.array(["bad"])], names=["text", "text"]),
        "two.parquet",
    )
    for name, message in (
        ("in.parquet", "damaged"),
        ("two.parquet", "two columns are called 'text'"),
    ):
        answered("--ckpt_path", str(run), "--input", name, "--output", "out.jsonl", status=2)
        err = capsys.readouterr().err
        assert message in err and "Traceback" not in err


def test_one_row_of_another_kind_decides_nothing(run: Path) -> None:
    write_jsonl("in.jsonl", [{"text": "good"}, {"first": "a", "second": "b"}, {"text": "bad"}])
    answered(
        "--ckpt_path",
        str(run),
        "--input",
        "in.jsonl",
        "--output",
        "out.jsonl",
        "--on_error",
        "skip",
        status=1,
    )
    assert [line["row"] for line in lines("out.jsonl")] == [0, 2]


def test_answers_come_while_more_is_written_to_the_pipe(run: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "mtl",
        "predict",
        "--ckpt_path",
        str(run),
        "--input",
        "-",
        "--format",
        "text",
        "--window",
        "1",
    ]
    quiet = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=quiet
    ) as command:
        assert command.stdin and command.stdout
        command.stdin.write(b"good\nbad\nred\n")
        command.stdin.flush()
        # The window after the one that is answered has been read by then, and no more.
        assert json.loads(command.stdout.readline())["row"] == 0
        command.stdin.close()
        assert [json.loads(line)["row"] for line in command.stdout] == [1, 2]


def test_closed_standard_input_is_no_matter_where_a_file_is_given(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    write_jsonl("in.jsonl", [{"text": "good"}])
    answered("--ckpt_path", str(run), "--input", "in.jsonl", "--output", "out.jsonl")
    assert len(lines("out.jsonl")) == 1
    answered("--ckpt_path", str(run), "--input", "-", status=2)
    assert "standard input is closed" in capsys.readouterr().err


def test_a_first_row_without_the_column_loses_itself_alone(run: Path) -> None:
    Path("in.jsonl").write_text('{"txt": "x"}\n{"text": "good"}\n')
    answered(
        "--ckpt_path",
        str(run),
        "--input",
        "in.jsonl",
        "--output",
        "out.jsonl",
        "--on_error",
        "skip",
        status=1,
    )
    assert [line["row"] for line in lines("out.jsonl")] == [1]


def test_no_more_than_a_window_is_held(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, read = [], [0]
    whole = InferenceEngine.__call__

    def counting(self: InferenceEngine, rows: Sequence[tuple[str, ...]]) -> dict[str, Tensor]:
        given.append((len(rows), read[0]))
        return whole(self, rows)

    def lines_read(lines: Iterable[str]) -> Iterator[Record | Unreadable]:
        for record in json_lines(lines):
            read[0] += 1
            yield record

    monkeypatch.setattr(InferenceEngine, "__call__", counting)
    monkeypatch.setattr("mtl.inference.inputs.json_lines", lines_read)
    write_jsonl("in.jsonl", [{"text": "good"}] * 10)
    answered(
        "--ckpt_path", str(run), "--input", "in.jsonl", "--output", "out.jsonl", "--window", "4"
    )
    assert given == [(4, 4), (4, 8), (2, 10)]


def test_whoever_reads_may_stop_reading(run: Path) -> None:
    write_jsonl("in.jsonl", [{"text": "good"}] * 5000)
    words = [
        sys.executable,
        "-m",
        "mtl",
        "predict",
        "--ckpt_path",
        str(run),
        "--input",
        "in.jsonl",
        "--window",
        "100",
    ]
    done = subprocess.run(
        ["bash", "-c", f"{shlex.join(words)} | head -1"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["row"] == 0
    assert "Error" not in done.stderr


def test_help_tells_of_own_texts(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["predict", "--help"], ["predict", "--input", "FILE", "--help"]):
        with pytest.raises(SystemExit) as done:
            main(words)
        assert done.value.code == 0
        assert "your own texts" in " ".join(capsys.readouterr().out.split())


def test_bf16_gives_nearly_the_same(run: Path) -> None:
    write_jsonl("in.jsonl", [{"text": "good film"}, {"text": "the bad cat"}])
    for precision in ("32", "bf16"):
        answered(
            "--ckpt_path",
            str(run),
            "--input",
            "in.jsonl",
            "--precision",
            precision,
            "--output",
            f"{precision}.jsonl",
        )
    whole, half = lines("32.jsonl"), lines("bf16.jsonl")
    assert whole != half
    for one, other in zip(whole, half, strict=True):
        assert one["mood"]["probabilities"] == pytest.approx(
            other["mood"]["probabilities"], abs=0.05
        )


@pytest.mark.parametrize("family", ["roberta", "deberta"])
def test_backbones_without_segments_too(family: str, task_files: list[Path], in_tmp: Path) -> None:
    model = str(save_backbone(family, in_tmp / family))
    words = [f"--tasks+={file}" for file in task_files] + [
        "--backbone",
        model,
        "--out",
        "run",
        *QUICK,
        "--data.max_length",
        "16",
    ]
    main(["fit", *words])
    main(["test", "--ckpt_path", "run", *QUICK[:4]])
    found = mtl.load("run", device="cpu").predict(
        [(row["first"], row["second"]) for row in rows_of(task_files, "same")]
    )
    for answer, line in zip(found["same"], lines("run/predictions/test/same.jsonl"), strict=True):
        assert isinstance(answer, Prediction) and answer.probabilities is not None
        assert answer.probabilities == pytest.approx(line["probabilities"], abs=1e-6)
