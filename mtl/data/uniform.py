"""Each task equally often."""

from collections.abc import Sequence
from typing import Any, Literal

from mtl.bounds import Positive
from mtl.data.base import MultiTaskDataModule
from mtl.data.order import Stream
from mtl.data.proportional import WeightedOrder


class UniformDataModule(MultiTaskDataModule):
    """One random task per step; in an epoch all tasks give equally many batches.

    A task that runs out of examples starts again, reshuffled.

    Source: CA-MTL's `--uniform_mt_sampling`, which in the release only sets the length of an epoch.

    Args:
        share: Batches of each task in an epoch, as a share of those of the largest task
            (`--percent_of_max_data_size`).

    Raises:
        UserError: If `share` is not above 0.
    """

    def __init__(self, share: Positive = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.share = share

    @property
    def tasks_per_batch(self) -> Literal["one"]:
        """The task drawn."""
        return "one"

    def order(self, streams: Sequence[Stream]) -> WeightedOrder:
        """Batches of `batch_size` examples of the tasks drawn."""
        rounds = max(1, round(self.share * max(stream.batches for stream in streams)))
        return WeightedOrder(streams, [1] * len(streams), [0.0], rounds * len(streams), self.seed)
