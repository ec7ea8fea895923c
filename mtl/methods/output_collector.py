"""Collects the outputs of an evaluation over all processes."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed

from mtl.batch import Segment
from mtl.predictions import Predictions
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
            predictions[split] = Predictions(
                task, ids[order], *(column[order] for column in columns)
            )
        return predictions


def _concatenate(batches: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(column) for column in zip(*batches, strict=True))
