"""This process's share of an order, as batches, from where the run stands."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mtl.batch import Batch, collate
from mtl.data.encoding import EncodedSplit
from mtl.data.order import Draw, Ints, Order


class StepDataset(Dataset[Batch]):
    """The batch of each step of one epoch, for one of several processes.

    Args:
        order: What each step draws.
        tables: The rows of each task that the order draws from, by the task's place.
        names: Names of the tasks.
        padding: The value that pads each field.
        name: Where the rows come from, as batches carry it.
        epoch: The epoch.
        rank: This process's number.
        world: Number of processes.
    """

    def __init__(
        self,
        order: Order,
        tables: Mapping[int, EncodedSplit],
        names: Sequence[str],
        padding: dict[str, int],
        name: str,
        epoch: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.order, self.tables, self.names, self.padding, self.name = (
            order,
            tables,
            names,
            padding,
            name,
        )
        self.epoch, self.rank, self.world = epoch, rank, world

    def __len__(self) -> int:
        return self.order.steps

    def __getitem__(self, step: int) -> Batch:
        # Segments of similar length stand together: by the whole draw's longest row, so alike in all processes.
        draws = sorted(
            self.order(self.epoch, step),
            key=lambda draw: self.tables[draw.task].lengths[draw.examples].max(),
        )
        shares = shard(draws, self.rank, self.world)
        filler = not any(
            map(len, shares)
        )  # fewer rows than processes: take one without label, so that all run the step
        if filler:
            shares[0] = draws[0].examples[:1]
        parts = [
            self.tables[draw.task].take(
                Draw(draw.task, share),
                len(draw.examples) / self.world,
                fillers=int(filler and place == 0),
            )
            for place, (draw, share) in enumerate(zip(draws, shares, strict=True))
        ]
        return collate(parts, self.names, self.padding, self.name)


def shard(draws: Sequence[Draw], rank: int, world: int) -> list[Ints]:
    """One process's rows of each draw.

    Rows are dealt in turn, going on from draw to draw, so that processes get as many, give or take one.

    Args:
        draws: The draws of a step.
        rank: The process's number.
        world: Number of processes.
    """
    before = np.cumsum([0, *(len(draw.examples) for draw in draws)])
    return [
        draw.examples[(rank - start) % world :: world]
        for draw, start in zip(draws, before, strict=False)
    ]


class Loader:
    """Batches of an order, for one process: a thin shell around torch's DataLoader.

    The DataLoader is opened at the first `next`, not at `iter`: Lightning calls `iter` before it has restored where a
    resumed run stands, and a DataLoader with workers asks for its first steps right then.

    Args:
        steps: Makes the batches of an epoch: called with (epoch, rank, world).
        length: Batches in an epoch.
        position: Where the run stands: (epoch, batches of it that are done).
        place: This process among others: (rank, world).
        workers: Worker processes that prepare batches ahead; 0 prepares them in the training process.
    """

    def __init__(
        self,
        steps: Callable[[int, int, int], StepDataset],
        length: int,
        position: Callable[[], tuple[int, int]],
        place: Callable[[], tuple[int, int]],
        workers: int = 0,
    ) -> None:
        self.steps, self.length, self.position, self.place, self.workers = (
            steps,
            length,
            position,
            place,
            workers,
        )

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        epoch, done = self.position()
        yield from DataLoader(
            self.steps(epoch, *self.place()),
            batch_size=None,
            sampler=range(done, self.length),
            num_workers=self.workers,
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available(),
        )


def _as_it_is(batch: Any) -> Any:
    return batch  # torch would turn its tuples into lists
