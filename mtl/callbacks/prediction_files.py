"""Predictions of every row, a file for each split."""

import json
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from mtl.methods.base import MultiTaskModule, Predictions
from mtl.training.run_folder import write_atomic

# File names of GLUE's submissions, by our names of the splits (gluebenchmark.com, FAQ).
GLUE_FILES = {
    "cola": "CoLA",
    "sst2": "SST-2",
    "mrpc": "MRPC",
    "stsb": "STS-B",
    "qqp": "QQP",
    "mnli/matched": "MNLI-m",
    "mnli/mismatched": "MNLI-mm",
    "qnli": "QNLI",
    "rte": "RTE",
    "wnli": "WNLI",
}
# Tasks whose submissions give the class's number rather than its name.
GLUE_NUMBERED = ("cola", "sst2", "mrpc", "qqp", "wnli")


class WritePredictions(Callback):
    """Writes `predictions/<stage>/<split>.jsonl` after `mtl test` and `mtl predict`: row, prediction, probabilities.

    For GLUE's tasks `mtl predict` also writes `predictions/glue/<Task>.tsv`, which GLUE's server takes.

    Args:
        out: The run's folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what the test found."""
        self._write(trainer, pl_module, "test")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the predictions, and GLUE's submissions of GLUE's tasks."""
        self._write(trainer, pl_module, "predict")

    def _write(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        assert isinstance(module, MultiTaskModule)
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        write_predictions(self.out, stage, module.predictions)


def write_predictions(out: Path, stage: str, predictions: Mapping[str, Predictions]) -> None:
    """Writes a file for each split, and GLUE's submissions where there are any.

    Args:
        out: The run's folder.
        stage: `test` or `predict`.
        predictions: The rows of each split.
    """
    for name, rows in predictions.items():
        lines = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in _lines(rows))
        write_atomic(out / "predictions" / stage / f"{name.replace('/', '-')}.jsonl", lines)
        if stage == "predict" and name in GLUE_FILES:
            write_atomic(
                out / "predictions" / "glue" / f"{GLUE_FILES[name]}.tsv", _submission(name, rows)
            )


def _lines(rows: Predictions) -> list[dict[str, object]]:
    """For each row its number, its prediction and, where it has one, its label, in the words of the task."""
    task, lines = rows.task, []
    for number, label, output in zip(
        rows.ids.tolist(), rows.labels.tolist(), rows.outputs.tolist(), strict=True
    ):
        line: dict[str, object] = {"row": number}
        if task.regression:
            line["prediction"] = output[0]
            known = label == label  # not NaN
        else:
            line["prediction"] = task.classes[output.index(max(output))]
            line["probabilities"] = dict(zip(task.classes, output, strict=True))
            known = label >= 0
        if known:
            line["label"] = label if task.regression else task.classes[label]
        lines.append(line)
    return lines


def _submission(name: str, rows: Predictions) -> str:
    if rows.task.regression:
        answers = [
            f"{value:.3f}"
            for value in rows.outputs[:, 0].clamp(*(rows.task.range or (None, None))).tolist()
        ]
    else:
        numbers = rows.outputs.argmax(1).tolist()
        answers = [
            str(number) if name in GLUE_NUMBERED else rows.task.classes[number]
            for number in numbers
        ]
    lines = [f"{place}\t{answer}" for place, answer in zip(rows.ids.tolist(), answers, strict=True)]
    return "\n".join(["index\tprediction", *lines, ""])
