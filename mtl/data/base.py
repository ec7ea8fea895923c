"""The base class of all sampling schemes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from mtl.batch import TasksPerBatch
from mtl.data.encoded_split import EncodedSplit
from mtl.data.example_loaders import ExampleLoaders
from mtl.data.label_groups import LabelGroup
from mtl.data.loader import BatchLoader, StepDataset
from mtl.data.order import Order, Stream
from mtl.training.lifecycle import TrainingHooks


class MultiTaskDataModule(TrainingHooks, ExampleLoaders, ABC):
    """Examples of several tasks. A scheme overrides `tasks_per_batch` and `order`.

    A scheme that reacts to training also sets `interval`, overrides a hook such as `on_step_end` or
    `on_validation_scores` (`TrainingHooks` states when they are called), and saves what it
    remembers in `state_dict` and `load_state_dict`, which Lightning calls for every checkpoint.

    Attributes:
        interval: Steps for which the result of `order` holds. After them the training loader calls
            `on_interval_start` and `order` again. None: `order` is called once per epoch.
        measured: Values of the last step to be logged, each a scalar, by name.
        charts: TensorBoard's charts of the values in `measured`: for each title a regular
            expression of their names.
    """

    interval: int | None = None
    charts: ClassVar[Mapping[str, str]] = {}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.measured: dict[str, Tensor] = {}
        # The open splits, and what is drawn from them.
        self._drawn: tuple[Any, dict[int, EncodedSplit | LabelGroup]] | None = None

    @property
    @abstractmethod
    def tasks_per_batch(self) -> TasksPerBatch:
        """How many of the tasks a training batch holds."""

    @abstractmethod
    def order(self, streams: Sequence[Stream]) -> Order:
        """What each training step draws.

        Args:
            streams: The batches of each task that the scheme trains on.
        """

    def on_interval_start(self, epoch: int, number: int) -> None:
        """Called before the training loader calls `order` for steps from `number * interval` on."""

    # Training.

    @property
    def drawn(self) -> "dict[int, EncodedSplit | LabelGroup]":
        """What the scheme draws from (`stream_splits`); computed once for the open splits."""
        if self._drawn is None or self._drawn[0] is not self.train_splits:
            self._drawn = self.train_splits, self.stream_splits()
        return self._drawn[1]

    def streams(self) -> list[Stream]:
        """The batches of each task trained on; available after `setup("fit")`."""
        return [
            Stream(
                index,
                len(encoded),
                self.batch_size,
                self.seed,
                encoded.lengths if self.group_by_length else None,
            )
            for index, encoded in self.drawn.items()
        ]

    def train_dataloader(self) -> BatchLoader:
        """Batches in the scheme's order, starting where the run stands."""
        return BatchLoader(
            self._training_steps,
            self.order(self.streams()).steps,
            self._position,
            self._process,
            self.num_workers,
            self.interval,
        )

    def _training_steps(self, epoch: int, step: int, rank: int, world: int) -> StepDataset:
        trainer: Any = self.trainer
        if trainer and trainer.overfit_batches:
            epoch = 0  # the same batches in every epoch
        if self.interval:
            self.on_interval_start(epoch, step // self.interval)
        order = self.order(self.streams())
        return self._steps(order, self.drawn, "train", epoch, step, rank, world)

    def _position(self) -> tuple[int, int]:
        if not self.trainer:
            return 0, 0
        # `ready` counts batches consumed; `completed` is one less in a checkpoint that is written
        # at the end of a step.
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        return self.trainer.current_epoch, progress.current.ready
