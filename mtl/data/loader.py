"""This process's share of an order, as batches, starting where the run stands."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mtl.batch import Batch, EncodedExamples, collate, loss_terms
from mtl.data.encoded_split import EncodedSplit
from mtl.data.label_groups import LabelGroup
from mtl.data.order import Draw, Order
from mtl.data.permutation import Ints


class StepDataset(Dataset[Batch]):
    """The batch of each step of one epoch, for one of several processes.

    Args:
        order: What each step draws.
        splits: The split of each task, or of each label group by its first task, that the order
            draws from, by the task's index.
        names: Names of the tasks.
        padding: The value that pads each field.
        name: Where the examples come from, stored in each batch.
        epoch: The epoch.
        rank: This process's rank.
        world: Number of processes.
        once: Whether examples of several tasks are in a batch once (`LabelGroup.take`).
    """

    def __init__(
        self,
        order: Order,
        splits: Mapping[int, EncodedSplit | LabelGroup],
        names: Sequence[str],
        padding: dict[str, int],
        name: str,
        epoch: int = 0,
        rank: int = 0,
        world: int = 1,
        once: bool = False,
    ) -> None:
        self.once = once
        self.order, self.splits, self.name = order, splits, name
        self.names, self.padding = names, padding
        self.epoch, self.rank, self.world = epoch, rank, world

    def __len__(self) -> int:
        return self.order.steps

    def __getitem__(self, step: int) -> Batch:
        # Tasks are sorted by the longest example of the complete draw, so the segments' order is
        # the same in all processes.
        draws = sorted(
            self.order(self.epoch, step),
            key=lambda draw: self.splits[draw.task].lengths[draw.examples].max(),
        )
        shares = shard(draws, self.rank, self.world)
        # With fewer examples than processes, a process takes one without its label, so that all
        # processes run the step.
        filler = not any(map(len, shares))
        if filler:
            shares[0] = draws[0].examples[:1]
        encoded = [
            part
            for index, (draw, share) in enumerate(zip(draws, shares, strict=True))
            for part in self._take(draw, share, fillers=int(filler and index == 0))
        ]
        return collate(encoded, self.names, self.padding, self.name)

    def _take(self, draw: Draw, share: Ints, fillers: int) -> list[EncodedExamples]:
        split = self.splits[draw.task]
        if isinstance(split, LabelGroup):
            return split.take(draw, share, self.world, fillers, self.once)
        terms = max(1, int(loss_terms(split.labels[draw.examples]).sum()))
        return [split.take(Draw(draw.task, share), terms / self.world, fillers)]


def shard(draws: Sequence[Draw], rank: int, world: int) -> list[Ints]:
    """One process's examples of each draw.

    Examples are dealt to the processes in turn, continuing from draw to draw, so that the
    processes' numbers of examples differ by at most one.

    Args:
        draws: The draws of a step.
        rank: The process's rank.
        world: Number of processes.
    """
    before = np.cumsum([0, *(len(draw.examples) for draw in draws)])
    return [
        draw.examples[(rank - start) % world :: world]
        for draw, start in zip(draws, before, strict=False)
    ]


class BatchLoader:
    """Batches of an order, for one process: a thin wrapper around torch's DataLoader.

    The DataLoader is opened at the first `next`, not at `iter`: Lightning calls `iter` before it
    has restored the position of a resumed run, and a DataLoader with workers requests its first
    steps at once. If the order follows the training, a new DataLoader is opened every `interval`
    steps, after the update of the step before, so that worker processes get a copy of the new
    order. Each DataLoader ends with its interval: no batch is prepared and then discarded.

    Args:
        dataset: Makes the batches of an epoch, called with (epoch, step, rank, world) whenever a
            DataLoader is opened; step is the first one that is read.
        length: Batches in an epoch.
        position: Where the run stands: (epoch, number of its batches that are done).
        process: This process: (rank, world).
        workers: Worker processes that prepare batches in advance; 0 prepares them in the training
            process.
        interval: Steps after which the DataLoader is opened again. Default: only once per epoch.
    """

    def __init__(
        self,
        dataset: Callable[[int, int, int, int], StepDataset],
        length: int,
        position: Callable[[], tuple[int, int]],
        process: Callable[[], tuple[int, int]],
        workers: int = 0,
        interval: int | None = None,
    ) -> None:
        self.dataset, self.length, self.position, self.process = dataset, length, position, process
        self.workers, self.interval = workers, interval or max(1, length)

    def __len__(self) -> int:
        return self.length

    def state_dict(self) -> dict[str, int]:
        """Nothing: the position is the Trainer's. Lightning warns of loaders that cannot resume."""
        return {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restores nothing."""

    def __iter__(self) -> Iterator[Batch]:
        epoch, start = self.position()
        while start < self.length:
            end = min(self.length, (start // self.interval + 1) * self.interval)
            yield from DataLoader(
                self.dataset(epoch, start, *self.process()),
                batch_size=None,
                sampler=range(start, end),
                num_workers=self.workers,
                collate_fn=_unchanged,
                pin_memory=torch.cuda.is_available(),
            )
            start = end


def _unchanged(batch: Any) -> Any:
    return batch  # torch's default would turn the batch's tuples into lists
