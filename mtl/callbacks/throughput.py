"""Measures the examples of each task, speed, padding and memory."""

import time
from collections.abc import Set
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mtl.batch import Batch, length_groups
from mtl.callbacks.typed_trainer import datamodule_of, log_interval, method_of
from mtl.system.hardware import peak_memory


class ThroughputMonitor(Callback):
    """Logs speed, padding, memory and the examples of each task, every `log_every_n_steps` steps.

    `sampling/TASK` is the number of examples drawn so far, `sampling_share/TASK` the task's share
    of the examples since the last log. `cost/memory_gib` is the peak so far, of the GPU, or of the
    process on a CPU.

    Counts stay on the device between logs, so that counting never synchronizes it. With several
    processes, the numbers are for all of them, assuming that each does as much as the first.

    Attributes:
        examples: Number of examples drawn so far, by task.
    """

    def __init__(self) -> None:
        self.examples: dict[str, int] = {}
        self._examples_before: dict[str, int] = {}
        self._start = time.perf_counter()
        self._tokens: Tensor = torch.zeros((), dtype=torch.long)
        self._padded_tokens = self._batch_examples = 0

    def state_dict(self) -> dict[str, Any]:
        """The number of examples drawn so far, by task."""
        return {"examples": dict(self.examples)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the number of examples drawn so far."""
        self.examples = dict(state_dict["examples"])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restarts the clock, so that it excludes the validation before this epoch."""
        self._reset()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Counts the batch, and logs if it is time to."""
        words = {task.name for task in method_of(pl_module).tasks if task.kind.labels_words}
        self._count(batch, trainer.world_size, words)
        if trainer.global_step % log_interval(trainer):
            return
        seconds = time.perf_counter() - self._start
        tokens = int(self._tokens)
        new = {
            task: examples - self._examples_before.get(task, 0)
            for task, examples in self.examples.items()
        }
        memory = peak_memory(pl_module.device)
        values = {
            "cost/examples_per_second": self._batch_examples * trainer.world_size / seconds,
            "cost/tokens_per_second": tokens * trainer.world_size / seconds,
            "cost/padding_share": 1 - tokens / self._padded_tokens,
            **({"cost/memory_gib": memory / 2**30} if memory is not None else {}),
            **{f"sampling/{task}": float(examples) for task, examples in self.examples.items()},
            **{f"sampling_share/{task}": count / sum(new.values()) for task, count in new.items()},
            **{name: float(value) for name, value in datamodule_of(trainer).measured.items()},
        }
        pl_module.log_dict(values, rank_zero_only=True, batch_size=1)
        self._reset()

    def _count(self, batch: Batch, processes: int, word_tasks: Set[str]) -> None:
        for segment in batch.segments:
            # The denominator counts the examples with a label, or the words with one.
            of_words = segment.task in word_tasks
            drawn = (len(segment.labels) if of_words else segment.denominator) * processes
            self.examples[segment.task] = self.examples.get(segment.task, 0) + round(drawn)
        mask = batch.tokens["attention_mask"]
        self._tokens = self._tokens + mask.sum()
        self._padded_tokens += sum(
            (examples.stop - examples.start) * length for examples, length in length_groups(batch)
        )
        self._batch_examples += len(mask)

    def _reset(self) -> None:
        self._start = time.perf_counter()
        self._tokens = torch.zeros((), dtype=torch.long)
        self._padded_tokens = self._batch_examples = 0
        self._examples_before = dict(self.examples)
