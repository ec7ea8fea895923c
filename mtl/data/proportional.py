"""One task per step, sampled with fixed probabilities."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mtl.bounds import Count, NonNegative
from mtl.data.base import MultiTaskDataModule
from mtl.data.mixture import Mixture, systematic_counts
from mtl.data.order import Draw, Stream
from mtl.data.permutation import Ints
from mtl.errors import UserError

# Number of steps whose tasks are drawn together.
BLOCK = 256


class WeightedOrder:
    """One task's batch per step, in random order, each task as often as its probability says.

    In an epoch of S steps a task with probability p is drawn floor(pS) or ceil(pS) times, pS in the
    mean over epochs. All orders of these batches are equally likely. Each task gives its own
    batches, pass after pass.

    Args:
        streams: The tasks' batches.
        sizes: The tasks' sizes N; a task's probability is proportional to N^alpha.
        alphas: The exponent of each epoch; the last one holds for all later epochs.
        steps: Steps in an epoch.
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
        # The last epoch computed: its number, the batches given before it, the order of its tasks.
        self._epoch: tuple[int, Ints, Mixture] | None = None

    def __call__(self, epoch: int, step: int) -> list[Draw]:
        """The next batch of the task drawn."""
        if self._epoch is None or self._epoch[0] != epoch:
            earlier = sum(
                (self.counts(number) for number in range(epoch)),
                np.zeros(len(self.streams), np.int64),
            )
            self._epoch = epoch, earlier, Mixture(self.counts(epoch), BLOCK, (self.seed, epoch))
        _, earlier, mixture = self._epoch
        block, index = divmod(step, BLOCK)
        before, tasks = mixture.block(block)
        task = tasks[index]
        number = earlier[task] + before[task] + (tasks[:index] == task).sum()
        return [self.streams[task](int(number))]

    def counts(self, epoch: int) -> Ints:
        """Batches of each task in an epoch, shape (tasks,)."""
        weights = self.sizes ** self.alphas[min(epoch, len(self.alphas) - 1)]
        offset = np.random.default_rng([self.seed, epoch]).random()
        return systematic_counts(weights, self.steps, offset)


class ProportionalDataModule(MultiTaskDataModule):
    """One task per step, with probability proportional to N^alpha for N training examples.

    `alpha: 1` is proportional sampling: an epoch is every batch of every task once, in random order
    (MT-DNN, Liu et al. 2019, algorithm 1). `alpha: 0.5` is square root sampling. A temperature T is
    `alpha` 1/T. `alpha: annealed` goes from 1 in the first epoch to 0.2 in the last one:
    1 - 0.8 (e - 1)/(E - 1) (Stickland and Murray 2019, section 3.2). The draws of every epoch then
    depend on the number of epochs E.

    Args:
        alpha: The exponent, or `annealed`.
        cap: Size above which all tasks count as equally large: the artificial limit K of T5 (Raffel
            et al. 2020, section 3.5.2). Default: no limit.
        steps: Steps in an epoch. Default: as many as all tasks have batches.

    Raises:
        UserError: If a number is out of range, or the number of epochs is unknown with `annealed`.
    """

    def __init__(
        self,
        alpha: NonNegative | Literal["annealed"] = 1.0,
        cap: Count | None = None,
        steps: Count | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alpha, self.cap, self.steps = alpha, cap, steps

    @property
    def tasks_per_batch(self) -> Literal["one"]:
        """The task drawn."""
        return "one"

    def order(self, streams: Sequence[Stream]) -> WeightedOrder:
        """Batches of `batch_size` examples of the tasks drawn."""
        batches = [stream.batches for stream in streams]
        if self.alpha == 1 and self.cap is None and self.steps is None:
            # N in whole batches, so that an epoch gives each example exactly once.
            sizes = np.array(batches)
        else:
            sizes = np.minimum([stream.size for stream in streams], self.cap or np.inf)
        alphas = self._annealed() if self.alpha == "annealed" else [float(self.alpha)]
        return WeightedOrder(streams, sizes, alphas, self.steps or sum(batches), self.seed)

    def _annealed(self) -> list[float]:
        epochs = self.trainer.max_epochs if self.trainer else None
        if epochs is None or epochs < 1:
            raise UserError(
                "annealed sampling depends on the number of epochs; give --trainer.max_epochs E"
            )
        return [1 - 0.8 * epoch / max(1, epochs - 1) for epoch in range(epochs)]
