"""Tasks drawn at random, a batch each, with stated probabilities."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mtl.data.base import MultiTaskDataModule
from mtl.data.order import Draw, Ints, Mixture, Stream
from mtl.errors import UserError

# Steps whose tasks are drawn at once.
BLOCK = 256


class WeightedOrder:
    """One task's batch a step, tasks in random order, each as often in an epoch as its probability says.

    A task with probability p stands in an epoch of S steps floor(pS) or ceil(pS) times, pS in the mean over epochs. Among
    all orders of so many batches each is equally likely, and a task gives its own batches pass after pass.

    Args:
        streams: The tasks' batches.
        sizes: The tasks' sizes N; a task's probability is proportional to N^alpha.
        alphas: The exponent of each epoch; the last one holds from there on.
        steps: Batches in an epoch.
        seed: The run's seed.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        sizes: npt.ArrayLike,
        alphas: Sequence[float],
        steps: int,
        seed: int,
    ) -> None:
        self.streams, self.steps, self.seed = streams, steps, seed
        self.sizes, self.alphas = np.asarray(sizes, float), alphas
        self._epoch: tuple[int, Ints, Mixture] | None = None  # the last one computed

    def __call__(self, epoch: int, step: int) -> list[Draw]:
        """The next batch of the task drawn."""
        if self._epoch is None or self._epoch[0] != epoch:
            given = sum(
                (self.counts(earlier) for earlier in range(epoch)),
                np.zeros(len(self.streams), np.int64),
            )
            self._epoch = epoch, given, Mixture(self.counts(epoch), BLOCK, (self.seed, epoch))
        block, place = divmod(step, BLOCK)
        before, tasks = self._epoch[2].block(block)
        task = tasks[place]
        return [
            self.streams[task](
                int(self._epoch[1][task] + before[task] + (tasks[:place] == task).sum())
            )
        ]

    def counts(self, epoch: int) -> Ints:
        """Batches of each task in an epoch: systematic sampling, one random number for all tasks."""
        weights = self.sizes ** self.alphas[min(epoch, len(self.alphas) - 1)]
        expected = np.cumsum(weights / weights.sum()) * self.steps
        chance = np.random.default_rng([self.seed, epoch]).random()
        # Rounded first: a sum that should be whole must not fall short of it by an error in the last digit.
        ends = np.floor(np.round(expected, 6) + chance).astype(np.int64)
        return ends - np.concatenate([[0], ends[:-1]])


class ProportionalDataModule(MultiTaskDataModule):
    """Each step one task, drawn with probability proportional to N^alpha, N being its number of training rows.

    `alpha: 1` is proportional sampling: an epoch is every batch of every task once, in random order (MT-DNN, Liu et al.
    2019, algorithm 1). `alpha: 0.5` is square root sampling. A temperature T is `alpha` 1/T. `alpha: annealed` goes
    from 1 in the first epoch to 0.2 in the last: 1 - 0.8 (e - 1)/(E - 1) (Stickland and Murray 2019, section 3.2); with
    another number of epochs E every epoch draws otherwise.

    Args:
        alpha: The exponent, or `annealed`.
        cap: The number of rows above which a task counts as no larger: the artificial limit K of T5 (Raffel et al.
            2020, section 3.5.2). None where absent.
        steps: Batches in an epoch; as many as all tasks have together where absent.

    Raises:
        UserError: If a number is out of range, or `annealed` does not know the number of epochs.
    """

    def __init__(
        self,
        alpha: float | Literal["annealed"] = 1.0,
        cap: int | None = None,
        steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(alpha, float | int) and alpha < 0:
            raise UserError(
                f"alpha {alpha}: give 0 (each task equally often) to 1 (in proportion to its rows), or more"
            )
        for name, value in (("cap", cap), ("steps", steps)):
            if value is not None and value < 1:
                raise UserError(f"{name} {value}: give 1 or more, or leave it out")
        self.alpha, self.cap, self.steps = alpha, cap, steps

    @property
    def tasks_per_batch(self) -> Literal["one"]:
        """The task drawn."""
        return "one"

    def order(self, streams: Sequence[Stream]) -> WeightedOrder:
        """Batches of `batch_size` rows of the tasks drawn."""
        batches = [stream.batches for stream in streams]
        if self.alpha == 1 and self.cap is None and self.steps is None:
            sizes = np.array(
                batches
            )  # N in whole batches, so that an epoch gives each row exactly once
        else:
            sizes = np.minimum([stream.size for stream in streams], self.cap or np.inf)
        alphas = self._annealed() if self.alpha == "annealed" else [float(self.alpha)]
        return WeightedOrder(streams, sizes, alphas, self.steps or sum(batches), self.seed)

    def _annealed(self) -> list[float]:
        epochs = self.trainer.max_epochs if self.trainer else None
        if epochs is None or epochs < 1:
            raise UserError(
                "annealed sampling goes from the first epoch to the last: say how many, --trainer.max_epochs E"
            )
        return [1 - 0.8 * epoch / max(1, epochs - 1) for epoch in range(epochs)]
