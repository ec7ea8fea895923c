"""`Predictions`: the predictions for one split, read by metrics, ensembles, tables and plots."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtl.tasks import Task
from mtl.training.run_folder import write_atomic


class Predictions(NamedTuple):
    """The predictions for all examples of a split, in the split's order.

    Attributes:
        task: The task.
        ids: Index of each example in the split, counted from 0, shape (examples,).
        labels: Class indices or targets, shape (examples,), or 0 and 1, shape (examples, classes);
            those of words have shape (examples, words), and their outputs (examples, words, tags);
            the kind's missing label (-1 or NaN) for an example without label.
        outputs: Class probabilities, shape (examples, classes), or values, shape (examples, 1).
        losses: Loss of each example, shape (examples,); NaN if it was not computed.
    """

    task: Task
    ids: Tensor
    labels: Tensor
    outputs: Tensor
    losses: Tensor

    def labelled(self) -> "Predictions":
        """The predictions for the examples that have a label."""
        known = self.task.kind.is_labelled(self.labels)
        return Predictions(
            self.task, self.ids[known], self.labels[known], self.outputs[known], self.losses[known]
        )

    def records(self) -> Iterator[dict[str, Any]]:
        """One JSON object per example.

        Its keys are `row` (the example's index), `prediction`, `probabilities` (classification) and
        `label` (if the example has one).
        """
        kind, known = self.task.kind, self.task.kind.is_labelled(self.labels).tolist()
        columns = zip(
            self.ids.tolist(), self.outputs.tolist(), self.labels.tolist(), known, strict=True
        )
        for index, outputs, label, has_label in columns:
            record = {"row": index, **kind.record(outputs)}
            yield record | ({"label": kind.label_value(label)} if has_label else {})


def concatenate_padded(tensors: Sequence[Tensor]) -> Tensor:
    """Concatenates tensors; those of words are padded with -1 (labels) or 0 (outputs)."""
    if len({tensor.shape[1:] for tensor in tensors}) == 1:
        return torch.cat(list(tensors))
    width = max(tensor.shape[1] for tensor in tensors)
    padded = []
    for tensor in tensors:
        shape = (len(tensor), width - tensor.shape[1], *tensor.shape[2:])
        padding = tensor.new_full(shape, 0 if tensor.is_floating_point() else -1)
        padded.append(torch.cat([tensor, padding], 1))
    return torch.cat(padded)


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Writes the predictions as JSON lines, atomically."""
    write_atomic(
        path,
        "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in predictions.records()),
    )


def read_predictions(path: Path, task: Task) -> Predictions:
    """Reads what `write_predictions` wrote.

    Args:
        path: The file.
        task: The task, as it was when the file was written.

    Returns:
        The predictions; losses are not stored in the file, so they are NaN.
    """
    with path.open(encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    kind = task.kind
    labels = kind.label_array(
        [kind.label(record["label"]) if "label" in record else None for record in records]
    )
    outputs = [torch.tensor([kind.outputs(record)]) for record in records]
    return Predictions(
        task,
        torch.tensor([record["row"] for record in records]),
        torch.from_numpy(labels).to(torch.float if labels.dtype.kind == "f" else torch.long),
        concatenate_padded(outputs),
        torch.full((len(records),), torch.nan),
    )
