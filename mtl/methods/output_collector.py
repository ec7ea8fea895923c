"""Collects the outputs of an evaluation over all processes."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, distributed

from mtl.batch import Segment
from mtl.predictions import Predictions, concatenate_padded
from mtl.tasks import Task
from mtl.training.distributed import several_processes


class OutputCollector:
    """Collects the outputs of an evaluation, batch by batch.

    Args:
        tasks: The tasks.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = {task.name: task for task in tasks}
        self._collected: dict[str, list[tuple[Tensor, ...]]] = {}

    def add(self, split: str, segment: Segment, outputs: Tensor, losses: Tensor) -> None:
        """Adds the examples of a segment, without fillers.

        Args:
            split: Name of the split, such as `mnli/matched`.
            segment: The examples.
            outputs: Class probabilities or values, shape (len(segment.labels), outputs).
            losses: Loss of each example, shape (len(segment.labels),).
        """
        columns = (segment.ids, segment.labels, outputs, losses)
        self._collected.setdefault(split, []).append(
            tuple(column.detach().cpu() for column in columns)
        )

    def gather(self) -> dict[str, Predictions]:
        """The predictions of all processes by split, in the split's order; resets the collector."""
        collected, self._collected = self._collected, {}
        joined = {split: _concatenate(batches) for split, batches in collected.items()}
        processes: list[Any] = [joined]
        if several_processes():
            processes = [None] * distributed.get_world_size()
            distributed.all_gather_object(processes, joined)
        predictions = {}
        for split in joined:
            ids, *columns = _concatenate(process[split] for process in processes)
            order = ids.argsort()
            task = self._tasks[split.partition("/")[0]]
            ids, columns = ids[order], [column[order] for column in columns]
            if len(ids.unique()) < len(ids):
                ids, columns = _joined_windows(ids, columns)
            predictions[split] = Predictions(task, ids, *columns)
        return predictions


def _concatenate(batches: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(concatenate_padded(column) for column in zip(*batches, strict=True))


def _joined_windows(ids: Tensor, columns: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """One entry per text, if texts were divided into windows; each word is in one of them."""
    labels, outputs, losses = columns
    unique, index, counts = ids.unique(return_inverse=True, return_counts=True)
    sums = [
        values.new_zeros(len(unique), *values.shape[1:]).index_add_(0, index, values)
        for values in (labels + 1, outputs, losses)
    ]
    return unique, [sums[0] - 1, sums[1], sums[2] / counts]
