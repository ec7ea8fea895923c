"""Writes the predictions for every example, one file per split."""

from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

import mtl.predictions
from mtl.callbacks.typed_trainer import is_dry_run, method_of
from mtl.predictions import Predictions
from mtl.training.run_folder import PREDICTIONS, write_atomic

# File names of GLUE's submissions, by the names of our splits (gluebenchmark.com, FAQ).
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
# Tasks whose submissions contain class indices instead of class names.
GLUE_CLASS_INDICES = ("cola", "sst2", "mrpc", "qqp", "wnli")
# How the predicted numbers are formatted.
GLUE_NUMBERS = {"stsb": ".3f"}


class WritePredictions(Callback):
    """Writes `predictions/<stage>/<split>.jsonl` after `mtl test` and `mtl predict`.

    For GLUE's tasks, `mtl predict` also writes `predictions/glue/<Task>.tsv`, the format of GLUE's
    evaluation server.

    Args:
        out: The run's folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the predictions of the test."""
        self._write(trainer, pl_module, "test")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the predictions, and the submissions for GLUE's tasks."""
        self._write(trainer, pl_module, "predict")

    def _write(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if trainer.is_global_zero and not is_dry_run(trainer):
            write_prediction_files(self.out, stage, method_of(module).predictions)


def write_prediction_files(out: Path, stage: str, predictions: Mapping[str, Predictions]) -> None:
    """Writes one file per split, and the submissions for GLUE's tasks.

    Args:
        out: The run's folder.
        stage: `test` or `predict`.
        predictions: The predictions by the name of the split.
    """
    folder = out / PREDICTIONS
    for name, split in predictions.items():
        path = folder / stage / f"{name.replace('/', '-')}.jsonl"
        mtl.predictions.write_predictions(path, split)
        if stage == "predict" and name in GLUE_FILES:
            write_atomic(folder / "glue" / f"{GLUE_FILES[name]}.tsv", _submission(name, split))


def _submission(name: str, predictions: Predictions) -> str:
    kind, lines = predictions.task.kind, ["index\tprediction"]
    for index, outputs in zip(predictions.ids.tolist(), predictions.outputs.tolist(), strict=True):
        label = kind.predicted_label(outputs)
        value = label if name in GLUE_CLASS_INDICES else kind.label_value(label)
        lines.append(f"{index}\t{value:{GLUE_NUMBERS.get(name, '')}}")
    return "\n".join([*lines, ""])
