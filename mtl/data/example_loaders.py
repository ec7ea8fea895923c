"""Loaders that read each example once, for evaluation and for scores of training examples."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from mtl.data.encoded_split import EncodedSplit
from mtl.data.label_groups import LabelGroup
from mtl.data.length_sorted import LengthSortedOrder
from mtl.data.loader import BatchLoader, StepDataset
from mtl.data.order import Order
from mtl.data.task_data import TaskDataModule


class ExampleLoaders(TaskDataModule):
    """Loaders for the splits of a stage, each example once; arguments as in `TaskDataModule`."""

    def val_dataloader(self) -> list[BatchLoader]:
        """A loader for each validation split, in the order of `evaluations`; each example once."""
        return self._evaluation_loaders("validate")

    def test_dataloader(self) -> list[BatchLoader]:
        """A loader for each test split, in the order of `evaluations`; each example once."""
        return self._evaluation_loaders("test")

    def predict_dataloader(self) -> list[BatchLoader]:
        """A loader for each split to predict, in the order of `evaluations`; each example once."""
        return self._evaluation_loaders("predict")

    def training_example_loaders(self) -> dict[str, BatchLoader]:
        """For each task a loader of its training examples, each once. Needs no `setup`."""
        self.train_splits = self._open_training()
        return {
            self.tasks[index].name: self._sorted_loader(index, encoded, "train")
            for index, encoded in self.train_splits.items()
        }

    def _evaluation_loaders(self, stage: str) -> list[BatchLoader]:
        return [
            self._sorted_loader(evaluation.task, encoded, evaluation.name, self._limit(stage))
            for evaluation, encoded in zip(self._evaluations, self.eval_splits, strict=True)
        ]

    def _limit(self, stage: str) -> float | None:
        """The number or share of batches that the Trainer evaluates; None without a Trainer."""
        limits = {"validate": "val", "test": "test", "predict": "predict"}
        trainer: Any = self.trainer
        return getattr(trainer, f"limit_{limits[stage]}_batches") if trainer else None

    def _sorted_loader(
        self, index: int, encoded: EncodedSplit, name: str, limit: float | None = None
    ) -> BatchLoader:
        order = LengthSortedOrder(index, encoded.lengths, self.eval_batch_size, limit)
        return BatchLoader(
            partial(self._steps, order, {index: encoded}, name),
            order.steps,
            lambda: (0, 0),
            self._process,
            self.num_workers,
        )

    @property
    def padding(self) -> dict[str, int]:
        """The value that pads each field of a batch."""
        return {
            "input_ids": int(self.tokenizer.pad_token_id),
            "token_type_ids": int(self.tokenizer.pad_token_type_id),
        }

    def _steps(
        self,
        order: Order,
        splits: Mapping[int, EncodedSplit | LabelGroup],
        name: str,
        epoch: int,
        step: int,
        rank: int,
        world: int,
    ) -> StepDataset:
        names = [task.name for task in self.tasks]
        module: Any = getattr(self.trainer, "lightning_module", None)
        once = module is not None and not module.encoder_is_task_specific
        return StepDataset(order, splits, names, self.padding, name, epoch, rank, world, once)

    def _process(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
