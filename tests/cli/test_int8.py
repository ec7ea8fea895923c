"""`mtl export --int8` on a tiny run: the scores that it prints are those of the graph it writes."""

import csv
import json
import shutil
from pathlib import Path

import pytest

import mtl
from mtl.cli.command import parse_arguments
from mtl.cli.export import add_arguments, run
from mtl.errors import UserError
from mtl.export.int8 import quantize

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
CPU = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")


@pytest.fixture(scope="module")
def trained(backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `mood`, whose words decide the class."""
    folder = tmp_path_factory.mktemp("int8")
    (folder / "mood").mkdir()
    for split, count in (("train", 40), ("validation", 30), ("test", 10)):
        lines = ["text,label"]
        for index in range(count):
            word = ("bad", "good")[index % 2]
            lines.append(f"the {('cat', 'dog', 'film')[index % 3]} was {word},{word}")
        (folder / "mood" / f"{split}.csv").write_text("\n".join(lines) + "\n")
    task = {"name": "mood", "texts": ["text"], "classes": ["bad", "good"]}
    (folder / "mood.yaml").write_text(json.dumps(task | {"source": {"path": "mood"}}))
    options = ["--data.cache", str(folder / "cache"), "--data.max_length", "16", *CPU]
    options += ["--trainer.max_steps", "8", "--model.lr", "1e-2"]
    mtl.fit([folder / "mood.yaml"], backbone=backbone, out=folder / "run", options=options)
    return folder


def export(folder: Path, *options: str) -> Path:
    arguments = ["--ckpt_path", str(folder / "run"), "--out", "exported", "--format", "mtl"]
    run(parse_arguments("export", [*arguments, *options], add_arguments, accept_unknown=True))
    return Path("exported")


def accuracy(export: Path, runtime: str, split: Path) -> float:
    with split.open(newline="") as file:
        rows = list(csv.DictReader(file))
    model = mtl.load(export, runtime="int8" if runtime == "int8" else "torch")
    predictions = model.predict([row["text"] for row in rows], task="mood")
    right = [each.value == row["label"] for each, row in zip(predictions, rows, strict=True)]
    return sum(right) / len(rows)


def test_the_scores_are_those_of_the_graph_on_the_validation_data(
    trained: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = export(trained, "--int8")
    stored = json.loads((folder / "onnx/model_int8.json").read_text())
    split = trained / "mood" / "validation.csv"
    int8, fp32 = (accuracy(folder, runtime, split) for runtime in ("int8", "torch"))
    assert stored["int8"]["mood"]["accuracy"] == pytest.approx(int8)
    assert stored["fp32"]["mood"]["accuracy"] == pytest.approx(fp32)
    line = f"mood: accuracy {int8:.4f} (fp32 {fp32:.4f})"
    assert line in capsys.readouterr().out and line in (folder / "README.md").read_text()
    assert sorted(path.name for path in (folder / "onnx").iterdir()) == [
        "model.onnx",
        "model_int8.json",
        "model_int8.onnx",
    ]
    graph = onnx.load(folder / "onnx/model_int8.onnx").graph
    weights = {each.data_type for each in graph.initializer if len(each.dims) == 2}
    # Products, embeddings, and constants of shapes.
    assert weights <= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT64}


def test_without_validation_data_nothing_is_written(trained: Path, in_tmp: Path) -> None:
    moved = Path(shutil.copytree(trained / "run", in_tmp / "moved" / "run"))
    data = (trained / "mood").rename(trained / "elsewhere")
    shutil.rmtree(trained / "cache")
    try:
        with pytest.raises(UserError, match=r"--int8 measures the scores on the run's validation"):
            export(moved.parent, "--int8")
    finally:
        data.rename(trained / "mood")
    assert not Path("exported").exists()
    (moved / "mtl.json").write_text("{}")
    with pytest.raises(UserError, match="an export has no validation examples"):
        export(moved.parent, "--int8")


def test_weights_in_a_file_of_their_own_are_quantized_as_well(trained: Path, in_tmp: Path) -> None:
    folder = export(trained, "--onnx")
    inside = folder / "onnx/model.onnx"
    expected = mtl.load(folder, runtime="onnx").predict(["the cat was good"], task="mood")
    onnx.save(
        onnx.load(inside), inside, save_as_external_data=True, location="model.onnx.data",
        size_threshold=0,
    )  # fmt: skip
    quantize(folder)
    files = sorted(path.name for path in inside.parent.iterdir())
    assert files[:2] == ["model.onnx", "model.onnx.data"] and not any(
        "unshaped" in f for f in files
    )
    found = mtl.load(folder, runtime="int8").predict(["the cat was good"], task="mood")
    assert found[0].value == expected[0].value
