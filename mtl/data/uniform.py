"""Each task equally often."""

from collections.abc import Sequence
from typing import Any, Literal

from mtl.data.base import MultiTaskDataModule
from mtl.data.order import Stream
from mtl.data.proportional import WeightedOrder
from mtl.errors import UserError


class UniformDataModule(MultiTaskDataModule):
    """Each step one task, drawn at random; in an epoch each task gives equally many batches, whatever its size.

    A task that runs out starts again, reshuffled.

    Source: CA-MTL's `--uniform_mt_sampling`, which in the release only sets the length of an epoch.

    Args:
        share: Batches of each task in an epoch, as a share of those that the largest task has
            (`--percent_of_max_data_size`).

    Raises:
        UserError: If `share` is not above 0.
    """

    def __init__(self, share: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if share <= 0:
            raise UserError(
                f"share {share}: give more than 0; 1 is as many batches of each task as the largest has"
            )
        self.share = share

    @property
    def tasks_per_batch(self) -> Literal["one"]:
        """The task drawn."""
        return "one"

    def order(self, streams: Sequence[Stream]) -> WeightedOrder:
        """Batches of `batch_size` rows of the tasks drawn."""
        rounds = max(1, round(self.share * max(stream.batches for stream in streams)))
        return WeightedOrder(streams, [1] * len(streams), [0.0], rounds * len(streams), self.seed)
