"""Tasks in turn."""

from collections.abc import Sequence
from typing import Any, Literal

from mtl.bounds import Count
from mtl.data.base import MultiTaskDataModule
from mtl.data.order import Draw, Stream


class RoundRobinOrder:
    """One task's batch per step, task after task; or a batch of every task in each step.

    Args:
        streams: The tasks' batches.
        rounds: Batches of each task in an epoch.
        mixed: Whether a step holds a batch of every task.
    """

    def __init__(self, streams: Sequence[Stream], rounds: int, mixed: bool = False) -> None:
        self.streams, self.rounds, self.mixed = streams, rounds, mixed
        self.steps = rounds if mixed else rounds * len(streams)

    def __call__(self, epoch: int, step: int) -> list[Draw]:
        """The next batch of the task whose turn it is, or of all tasks."""
        if self.mixed:
            return [stream(epoch * self.rounds + step) for stream in self.streams]
        number, task = divmod(epoch * self.steps + step, len(self.streams))
        return [self.streams[task](number)]


class RoundRobinDataModule(MultiTaskDataModule):
    """Tasks in turn, a batch each: after k rounds every task has given exactly k batches.

    A task that runs out of examples starts again, reshuffled. With one task this is ordinary
    training: each example once per epoch.

    Source: the round robin of CS224N's SST, Quora and STS; gradient surgery needs `mixed` (Yu et
    al. 2020).

    Args:
        mixed: Whether a step holds a batch of every task, each of `batch_size` examples, rather
            than a batch of one task.
        rounds: Batches of each task in an epoch: a number; or as many as the `longest` task has
            (smaller tasks start again); or as many as the `shortest` task has (the others continue
            in the next epoch where they stopped).

    Raises:
        UserError: If `rounds` is below 1.
    """

    def __init__(
        self,
        mixed: bool = False,
        rounds: Count | Literal["longest", "shortest"] = "longest",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mixed, self.rounds = mixed, rounds

    @property
    def tasks_per_batch(self) -> Literal["one", "all"]:
        """All tasks if mixed."""
        return "all" if self.mixed else "one"

    def order(self, streams: Sequence[Stream]) -> RoundRobinOrder:
        """Batches of `batch_size` examples, in turn."""
        batches = [stream.batches for stream in streams]
        named = {"longest": max(batches), "shortest": min(batches)}
        rounds = named.get(str(self.rounds)) or int(self.rounds)
        return RoundRobinOrder(streams, rounds, self.mixed)
