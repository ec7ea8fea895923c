from pathlib import Path
from typing import Any

import pytest
import torch

from mtl.callbacks.prediction_files import write_prediction_files
from mtl.predictions import Predictions
from mtl.tasks import Source, Task


def make_predictions(name: str, outputs: list[list[float]], **kind: Any) -> Predictions:
    task = Task(name=name, texts=["text"], label="label", source=Source(path="."), **kind)
    count = len(outputs)
    missing = torch.full((count,), task.kind.missing_label)
    ids, losses = torch.arange(count), torch.full((count,), torch.nan)
    return Predictions(task, ids, missing, torch.tensor(outputs), losses)


@pytest.mark.parametrize(
    ("split", "file", "cells"),
    [("mrpc", "MRPC", ["1", "0"]), ("qnli", "QNLI", ["yes", "no"])],
)
def test_glue_submissions_contain_class_indices_or_class_names(
    split: str, file: str, cells: list[str], tmp_path: Path
) -> None:
    predictions = make_predictions(split, [[0.1, 0.9], [0.8, 0.2]], classes=["no", "yes"])
    write_prediction_files(tmp_path, "predict", {split: predictions})
    lines = (tmp_path / f"predictions/glue/{file}.tsv").read_text().splitlines()
    assert lines == ["index\tprediction", f"0\t{cells[0]}", f"1\t{cells[1]}"]


def test_glue_submissions_of_values_are_clamped_to_the_tasks_range(tmp_path: Path) -> None:
    predictions = make_predictions("stsb", [[5.4], [2.5]], range=(0.0, 5.0))
    write_prediction_files(tmp_path, "predict", {"stsb": predictions})
    lines = (tmp_path / "predictions/glue/STS-B.tsv").read_text().splitlines()
    assert lines == ["index\tprediction", "0\t5.000", "1\t2.500"]


def test_a_test_writes_predictions_but_no_submission(tmp_path: Path) -> None:
    predictions = make_predictions("mrpc", [[0.1, 0.9]], classes=["no", "yes"])
    write_prediction_files(tmp_path, "test", {"mrpc": predictions})
    assert [path.name for path in tmp_path.rglob("*.*")] == ["mrpc.jsonl"]
