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
from mtl.data.formats import Record, Unreadable, json_lines
from mtl.inference.engine import InferenceEngine
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
    "MultiHeadSAN": ["--model.pair_head", "SAN"],
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
    """Trains and tests a method, once per module."""
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
            arguments = [f"--tasks+={file}" for file in files] + [
                "--backbone",
                model,
                "--model",
                method,
                *METHODS[name],
                *cache,
            ]
            main(["fit", *arguments, "--out", str(out), *QUICK])
            main(["test", "--ckpt_path", str(out), "--out", str(out), *QUICK[:4]])
        return out

    return run


@pytest.fixture
def run(runs: Callable[[str], Path], in_tmp: Path) -> Path:
    return runs("MultiHead")


def predict(*arguments: str, status: int = 0) -> None:
    """Runs the command and checks its exit status."""
    if status:
        with pytest.raises(SystemExit) as exit:
            main(["predict", *arguments, "--device", "cpu"])
        assert exit.value.code == status
    else:
        main(["predict", *arguments, "--device", "cpu"])


def lines(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def rows_of(task_files: list[Path], name: str) -> list[dict[str, str]]:
    """The rows of a toy task's test file."""
    file = next(file for file in task_files if file.stem == name)
    with (Path(str(Task.read(file).source.path)) / "test.csv").open() as rows:
        return list(csv.DictReader(rows))


def write_jsonl(path: str, rows: list[Any]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("method", METHODS)
def test_predictions_of_all_tasks_at_once_equal_those_of_mtl_test(
    method: str, runs: Callable[[str], Path], task_files: list[Path], in_tmp: Path
) -> None:
    folder = runs(method)
    every = {name: rows_of(task_files, name) for name in ("mood", "same", "near")}
    # One file with the columns of three tasks: `same` and `near` read the same pairs.
    for pairs in ("same", "near"):
        table = [{**one, **two} for one, two in zip(every["mood"], every[pairs], strict=False)]
        write_jsonl("input.jsonl", table)
        predict(
            "--ckpt_path",
            str(folder),
            "--input",
            "input.jsonl",
            "--output",
            "out.jsonl",
            "--overwrite",
            "--batch_size",
            "4",
        )
        predicted = lines("out.jsonl")
        assert [line["row"] for line in predicted] == list(range(len(table)))
        for name in ("mood", pairs):
            if not (expected := folder / "predictions/test" / f"{name}.jsonl").exists():
                continue  # Joint does not support regression
            for line, tested in zip(predicted, lines(expected), strict=False):
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
def test_a_shared_encoder_encodes_a_pair_once_and_a_task_specific_one_once_per_task(
    method: str, passes: int, runs: Callable[[str], Path], task_files: list[Path], in_tmp: Path
) -> None:
    predictor = mtl.load(runs(method), device="cpu")
    encoded: list[int] = []
    embeddings = [
        module
        for name, module in predictor.module.named_modules()
        if name.endswith("word_embeddings")
    ]
    assert embeddings
    for module in embeddings:
        module.register_forward_hook(lambda module, args, output: encoded.append(len(args[0])))
    pairs = [("the cat", "a dog sees it"), ("good film", "bad")] * 3
    predictions = predictor.predict(pairs)
    assert set(predictions) == {"same", "near"} & set(predictor.tasks)
    assert sum(encoded) == (passes if len(predictions) == 2 else 6)


def test_python_and_the_command_predict_the_same(run: Path, task_files: list[Path]) -> None:
    predictor = mtl.load(run, device="cpu")
    assert list(predictor.tasks) == ["mood", "same", "near"]
    assert (
        predictor.metrics["validation"]["mean"]
        == json.loads((run / "metrics.json").read_text())["validation"]["mean"]
    )
    texts = [row["text"] for row in rows_of(task_files, "mood")]
    tested = lines(run / "predictions/test/mood.jsonl")
    predictions = predictor.predict(texts, task="mood", batch_size=3)
    for prediction, line in zip(predictions, tested, strict=True):
        assert prediction.value == line["prediction"]
        assert prediction.probabilities == pytest.approx(line["probabilities"], abs=1e-6)
    assert predictor.predict(texts) == {"mood": predictor.predict(texts, task="mood")}
    pairs = predictor.predict([["a cat", "a dog"]])
    assert pairs["near"][0].probabilities is None and pairs["same"][0].probabilities is not None
    assert predictor.predict([], task="mood") == []


def test_every_format_gives_the_same_predictions(run: Path) -> None:
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
        predict("--ckpt_path", str(run), "--input", name, "--output", f"{name}.out.jsonl")
        assert lines(f"{name}.out.jsonl") == lines("in.jsonl.out.jsonl"), name
    predict("--ckpt_path", str(run), "--input=in.data", "--format", "csv", "--output", "data.jsonl")
    assert lines("data.jsonl") == lines("in.jsonl.out.jsonl")


@pytest.mark.parametrize(
    "content",
    [
        "the cat\ngood film\n",
        '{"text": "the cat"}\n{"text": "good film"}\n',
        "\ufeffthe cat\ngood film",
    ],
)
def test_standard_input_is_lines_of_text_or_json(
    content: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    capsys.readouterr()
    predict("--ckpt_path", str(run), "--input", "-")
    out, err = capsys.readouterr()
    predicted = [json.loads(line)["mood"] for line in out.splitlines()]
    expected = mtl.load(run, device="cpu").predict(["the cat", "good film"], task="mood")
    assert [(each["prediction"], each["probabilities"]) for each in predicted] == expected
    assert "2 rows" in err
    assert "not predicted: task same, near: standard input has no " in err


def test_csv_has_a_column_for_each_value_and_probability(run: Path) -> None:
    write_jsonl(
        "in.jsonl",
        [
            {"text": "good", "first": "a cat", "second": "the dog"},
            {"text": "b", "first": "c", "second": "d"},
        ],
    )
    predict("--ckpt_path", str(run), "--input", "in.jsonl", "--output", "deep/out.csv")
    predict("--ckpt_path", str(run), "--input", "in.jsonl", "--output", "out.jsonl")
    with open("deep/out.csv", newline="") as file:
        table = list(csv.DictReader(file))
    columns = [
        "row",
        "mood",
        "mood confidence",
        "mood.bad",
        "mood.good",
        "same",
        "same confidence",
        "same.no",
        "same.maybe",
        "same.yes",
        "near",
    ]
    assert list(table[0]) == columns
    for cells, line in zip(table, lines("out.jsonl"), strict=True):
        assert int(cells["row"]) == line["row"]
        assert cells["mood"] == line["mood"]["prediction"]
        assert cells["same.maybe"] == str(round(line["same"]["probabilities"]["maybe"], 6))
        assert cells["near"] == str(round(line["near"]["prediction"], 6))
    assert not list(Path().rglob("*.part"))


def table_of(path: str) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_kept_columns_precede_the_predictions(run: Path) -> None:
    rows = [{"id": "a7", "text": "good", "tags": ["x", 1]}, {"id": "a8", "text": "bad"}]
    write_jsonl("in.jsonl", rows)
    command = ["--ckpt_path", str(run), "--input", "in.jsonl"]
    predict(*command, "--keep", "all", "--output", "out.jsonl")
    kept = [dict(list(line.items())[1:-1]) for line in lines("out.jsonl")]
    assert kept == rows
    predict(*command, "--keep", "tags", "id", "--output", "out.csv")
    table = table_of("out.csv")
    assert list(table[0])[:4] == ["row", "id", "tags", "mood"]
    assert [(row["id"], row["tags"]) for row in table] == [("a7", '["x", 1]'), ("a8", "")]


def test_a_class_below_the_threshold_is_left_empty(run: Path) -> None:
    write_jsonl("in.jsonl", [{"text": text} for text in ("good", "bad", "the cat", "is not")])
    command = ["--ckpt_path", str(run), "--input", "in.jsonl", "--task", "mood"]
    predict(*command, "--output", "all.csv")
    everything = table_of("all.csv")
    confidences = [float(row["mood confidence"]) for row in everything]
    for row, confidence in zip(everything, confidences, strict=True):
        assert confidence == max(float(row["mood.bad"]), float(row["mood.good"]))
    threshold = sum(sorted(confidences)[1:3]) / 2
    predict(*command, "--threshold", str(threshold), "--output", "sure.csv")
    predict(*command, "--threshold", str(threshold), "--output", "sure.jsonl")
    sure = [confidence >= threshold for confidence in confidences]
    assert sum(sure) == 2
    for row, before, certain in zip(table_of("sure.csv"), everything, sure, strict=True):
        assert row == before | {"mood": before["mood"] if certain else ""}
    predictions = [line["mood"]["prediction"] for line in lines("sure.jsonl")]
    assert [prediction is not None for prediction in predictions] == sure


def test_columns_map_the_texts_of_a_task(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("in.jsonl", [{"review": "good", "a": "x", "b": "y"}])
    options = ["--ckpt_path", str(run), "--input", "in.jsonl", "--output", "out.jsonl"]
    predict(*options, status=2)
    assert (
        "has no column 'text'; task same, near: in.jsonl has no column 'first'. Its columns are "
        "'review', 'a', 'b'" in capsys.readouterr().err
    )
    predict(*options, "--columns", "text=review")
    assert set(lines("out.jsonl")[0]) == {"row", "mood"}
    predict(*options, "--columns", "first=a", "second=b", "--task", "near", "--overwrite")
    assert set(lines("out.jsonl")[0]) == {"row", "near"}
    # Two tasks whose texts have the same names read different columns.
    names = ["same.first=review", "first=a", "second=b", "mood.text=b"]
    predict(*options, "--columns", *names, "--overwrite")
    assert set(lines("out.jsonl")[0]) == {"row", "mood", "same", "near"}
    predict(*options, "--columns", "first=review", "second=b", "--task", "same", "--overwrite")
    (line,) = lines("out.jsonl")
    predict(*options, "--columns", *names, "--task", "same", "--overwrite")
    assert lines("out.jsonl") == [line]
    predict(*options, "--columns", "mod.text=review", "--overwrite", status=2)
    assert "Did you mean 'mood.text'?" in capsys.readouterr().err
    predict(*options, "--columns", "review=text", "--overwrite", status=2)
    assert "Did you mean 'text=review'?" in capsys.readouterr().err


def test_an_existing_file_is_replaced_only_with_overwrite(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl("in.jsonl", [{"text": "good"}])
    Path("out.jsonl").write_text("precious")
    options = ["--ckpt_path", str(run), "--input", "in.jsonl", "--output", "out.jsonl"]
    predict(*options, status=2)
    assert "--overwrite to replace it" in capsys.readouterr().err
    assert Path("out.jsonl").read_text() == "precious"
    predict(*options, "--overwrite")
    assert len(lines("out.jsonl")) == 1


def test_a_column_may_have_the_name_of_the_tasks_own_source(
    data_root: Path, backbone: str, in_tmp: Path
) -> None:
    task = {"name": "mood", "texts": ["sentence"], "classes": ["bad", "good"]}
    source = {"path": str(data_root / "mood"), "columns": {"sentence": "text"}}
    Path("mood.yaml").write_text(yaml.safe_dump(task | {"source": source}))
    main(["fit", "--tasks+=mood.yaml", "--backbone", backbone, "--out", "run", *QUICK])
    for column in ("sentence", "text"):
        write_jsonl("in.jsonl", [{column: "good"}])
        predict("--ckpt_path", "run", "--input", "in.jsonl", "--output", f"{column}.jsonl")
    assert lines("sentence.jsonl") == lines("text.jsonl")


BAD = {
    "in.jsonl": (
        b'{"text": "good"}\n{"text": "ba\n{"text": " "}\n[1]\n{"text": 5}\n{"txt": "x"}\n{"text": '
        b'"\xff"}\n'
        b'{"text": "x", "n": ' + b"9" * 5000 + b'}\n{"text": "bad"}\n',
        [0, 8],
    ),
    "in.csv": (b'text,id\ngood,1\nbad\n"b"ad,2\n,3\n\xff,4\n5,5\nbad,6\n', [0, 5, 6]),
    "in.tsv": (b"text\tid\ngood\t1\nbad\n \t2\nbad\t3\n", [0, 3]),
    "in.txt": (b"good\n\nbad\n", [0, 2]),
}


@pytest.mark.parametrize("name", BAD)
def test_an_unusable_row_is_reported_and_the_others_are_predicted(
    name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, good = BAD[name]
    Path(name).write_bytes(content)
    options = ["--ckpt_path", str(run), "--input", name, "--output", "out.jsonl"]
    predict(*options, status=2)
    assert f"{name}, row 1 (counted from 0): " in capsys.readouterr().err
    assert not list(Path().glob("out*"))
    predict(*options, "--on_error", "skip", "--window", "2", status=1)
    assert [line["row"] for line in lines("out.jsonl")] == good
    err = capsys.readouterr().err
    rows = good[-1] + 1
    for number in set(range(rows)) - set(good):
        assert f"{name}, row {number} (counted from 0): " in err
    assert f"{rows - len(good)} of {rows} rows were skipped" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "nowhere.csv"], "nowhere.csv: there is no such file"),
        (["--input", "in.doc"], "unknown extension '.doc'"),
        (["--input", "in.jsonl", "--task", "mod"], "Did you mean 'mood'?"),
        (["--input", "in.jsonl", "--task", "same"], "task same: in.jsonl has no column 'first'"),
        (
            ["--input", "in.jsonl", "--output", "out.xml"],
            "unsupported ending '.xml'. Supported: .jsonl, .csv, .parquet",
        ),
        (["--input", "in.jsonl", "--output", "./in.jsonl"], "that is the input"),
        (["--input", "in.jsonl", "--output", "folder.csv"], "is a folder; give a file"),
        (["--input", "in.jsonl", "--output", "in.doc/out.csv"], "cannot be written"),
        (["--input", "folder.csv"], "is a folder; give a file"),
        (
            ["--input", "semicolons.csv"],
            "; they are separated by semicolons: save the file with commas",
        ),
        (["--input", "tabs.csv"], "save the file with commas, or give --format tsv"),
        (["--input", "wide.csv"], "is UTF-16; save the file as UTF-8"),
        (["--input", "latin.csv"], "the name of a column is not UTF-8: b't\\xe8xt'; save the file"),
        (["--input", "latin.txt"], "is not UTF-8: b't\\xe8xt'; save the file as UTF-8"),
        (["--input", "empty.csv"], "the input has no rows"),
        (["--input", "empty.jsonl"], "the input has no rows"),
        (["--input", "in.jsonl", "--format", "parquet"], "not a Parquet file"),
        (
            ["--input", "in.jsonl", "--columns", "text"],
            "write the task's text column, =, and the input's column",
        ),
        (["--input", "in.jsonl", "--window", "0"], "is not a number of at least 1"),
        (["--input", "in.jsonl", "--threshold", "60"], "'60' is not a probability; give 0 to 1"),
        (["--input", "in.jsonl", "--keep", "txt"], "Did you mean 'text'?"),
        (["--input", "mood.jsonl", "--keep", "all"], "--keep mood: the output has a column of"),
        (["--input", "cut.csv.gz"], "damaged or truncated"),
    ],
)
def test_a_mistake_with_texts_gets_one_message(
    arguments: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl("in.jsonl", [{"text": "good"}])
    write_jsonl("mood.jsonl", [{"text": "good", "mood": "good"}])
    Path("empty.csv").write_text("text\n")
    Path("empty.jsonl").write_text("")
    Path("latin.csv").write_text("t\xe8xt,id\ngood,1\n", encoding="latin-1")
    Path("latin.txt").write_text("t\xe8xt\n", encoding="latin-1")
    Path("in.doc").write_text("good")
    Path("folder.csv").mkdir()
    Path("semicolons.csv").write_text("text;id\ngood;1\n")
    Path("tabs.csv").write_text("text\tid\ngood\t1\n")
    Path("wide.csv").write_text("text,id\ngood,1\n", encoding="utf-16")
    Path("cut.csv.gz").write_bytes(gzip.compress(b"text\n" + b"good\n" * 100)[:-12])
    predict("--ckpt_path", str(run), *arguments, status=2)
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
        (
            'text,id\ngood,1\n"bad,2\ngood,3\n',
            "lines 3 to 4: a quote that opens at line 3",
        ),
    ],
)
def test_an_unclosed_quote_ends_the_reading_and_the_rows_before_are_predicted(
    content: str, message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.csv").write_text(content)
    options = ["--ckpt_path", str(run), "--input", "in.csv", "--output", "out.jsonl"]
    predict(*options, status=2)
    assert message in capsys.readouterr().err and not Path("out.jsonl").exists()
    predict(*options, "--on_error", "skip", status=1)
    err = capsys.readouterr().err
    assert message in err and "so reading stops here" in err
    assert [line["row"] for line in lines("out.jsonl")] == [0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('"te"xt,id\ngood,1\n', "line 1: ',' expected"),
        ("text,text\ngood,bad\n", "two columns are called 'text'"),
    ],
)
def test_a_header_that_cannot_be_read_stops_the_command(
    content: str, message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.csv").write_text(content)
    predict(
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


def test_damaged_and_ambiguous_parquet_files_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pa.table({"text": [f"good {number} {number * 7919}" for number in range(5000)]})
    pa.parquet.write_table(rows, "in.parquet", compression="snappy")
    content = bytearray(Path("in.parquet").read_bytes())
    content[200:800] = bytes(byte ^ 0xFF for byte in content[200:800])
    Path("in.parquet").write_bytes(content)
    pa.parquet.write_table(
        pa.Table.from_arrays([pa.array(["good"]), pa.array(["bad"])], names=["text", "text"]),
        "two.parquet",
    )
    for name, message in (
        ("in.parquet", "damaged"),
        ("two.parquet", "two columns are called 'text'"),
    ):
        predict("--ckpt_path", str(run), "--input", name, "--output", "out.jsonl", status=2)
        err = capsys.readouterr().err
        assert message in err and "Traceback" not in err


def test_a_single_row_with_other_columns_does_not_change_the_tasks(run: Path) -> None:
    write_jsonl("in.jsonl", [{"text": "good"}, {"first": "a", "second": "b"}, {"text": "bad"}])
    predict(
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


def test_predictions_are_printed_while_the_pipe_is_still_open(run: Path) -> None:
    arguments = [
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
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=quiet
    ) as command:
        assert command.stdin and command.stdout
        command.stdin.write(b"good\nbad\nred\n")
        command.stdin.flush()
        # By then, only the next window has been read.
        assert json.loads(command.stdout.readline())["row"] == 0
        command.stdin.close()
        assert [json.loads(line)["row"] for line in command.stdout] == [1, 2]


def test_a_file_can_be_read_when_standard_input_is_closed(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    write_jsonl("in.jsonl", [{"text": "good"}])
    predict("--ckpt_path", str(run), "--input", "in.jsonl", "--output", "out.jsonl")
    assert len(lines("out.jsonl")) == 1
    predict("--ckpt_path", str(run), "--input", "-", status=2)
    assert "standard input is closed" in capsys.readouterr().err


def test_a_first_row_without_the_column_is_skipped_alone(run: Path) -> None:
    Path("in.jsonl").write_text('{"txt": "x"}\n{"text": "good"}\n')
    predict(
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


def test_at_most_one_window_is_held_in_memory(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, read = [], [0]
    original = InferenceEngine.__call__

    def counting(self: InferenceEngine, rows: Sequence[tuple[str, ...]]) -> dict[str, Tensor]:
        calls.append((len(rows), read[0]))
        return original(self, rows)

    def lines_read(lines: Iterable[str]) -> Iterator[Record | Unreadable]:
        for record in json_lines(lines):
            read[0] += 1
            yield record

    monkeypatch.setattr(InferenceEngine, "__call__", counting)
    monkeypatch.setattr("mtl.inference.inputs.json_lines", lines_read)
    write_jsonl("in.jsonl", [{"text": "good"}] * 10)
    predict(
        "--ckpt_path", str(run), "--input", "in.jsonl", "--output", "out.jsonl", "--window", "4"
    )
    assert calls == [(4, 4), (4, 8), (2, 10)]


def test_a_closed_output_pipe_ends_the_command_quietly(run: Path) -> None:
    write_jsonl("in.jsonl", [{"text": "good"}] * 5000)
    arguments = [
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
        ["bash", "-c", f"{shlex.join(arguments)} | head -1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["row"] == 0
    assert "Error" not in done.stderr


def test_help_describes_both_uses(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["predict", "--help"], ["predict", "--input", "FILE", "--help"]):
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        assert exit.value.code == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "predict your own texts" in text and "`mtl test --help all`" in text


def test_bf16_gives_nearly_the_same_predictions(run: Path) -> None:
    write_jsonl("in.jsonl", [{"text": "good film"}, {"text": "the bad cat"}])
    for precision in ("32", "bf16"):
        predict(
            "--ckpt_path",
            str(run),
            "--input",
            "in.jsonl",
            "--precision",
            precision,
            "--output",
            f"{precision}.jsonl",
        )
    full, half = lines("32.jsonl"), lines("bf16.jsonl")
    assert full != half
    for one, other in zip(full, half, strict=True):
        assert one["mood"]["probabilities"] == pytest.approx(
            other["mood"]["probabilities"], abs=0.05
        )


@pytest.mark.parametrize("family", ["roberta", "deberta"])
def test_encoders_without_segment_ids_predict_as_mtl_test(
    family: str, task_files: list[Path], in_tmp: Path
) -> None:
    model = str(save_backbone(family, in_tmp / family))
    arguments = [f"--tasks+={file}" for file in task_files] + [
        "--backbone",
        model,
        "--out",
        "run",
        *QUICK,
        "--data.max_length",
        "16",
    ]
    main(["fit", *arguments])
    main(["test", "--ckpt_path", "run", *QUICK[:4]])
    pairs = [(row["first"], row["second"]) for row in rows_of(task_files, "same")]
    predictions = mtl.load("run", device="cpu").predict(pairs)["same"]
    tested = lines("run/predictions/test/same.jsonl")
    for prediction, line in zip(predictions, tested, strict=True):
        assert prediction.probabilities == pytest.approx(line["probabilities"], abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "mood"], "--task is for your own texts: give --input FILE as well"),
        (["--window", "4"], "--window is for your own texts"),
        (["--input", "in.jsonl", "--trainer.devices", "1"], "--trainer.devices"),
        (["--input", "in.jsonl", "--colums", "text=a"], "Did you mean --columns?"),
        (["--input", "in.jsonl", "other.jsonl"], "other.jsonl"),
    ],
)
def test_options_of_the_two_uses_do_not_mix(
    arguments: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["predict", "--ckpt_path", str(run), *arguments])
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


def test_texts_need_a_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["predict", "--input", "in.jsonl"])
    assert exit.value.code == 2
    assert "give --ckpt_path RUN" in capsys.readouterr().err
