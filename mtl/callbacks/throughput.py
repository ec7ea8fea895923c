"""What passed through the model and what it took: rows of each task and their shares, speed, padding, memory."""

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mtl.batch import Batch, length_groups
from mtl.system.provenance import peak_memory


class ThroughputMonitor(Callback):
    """Logs speed, padding, memory and what each task contributed, every `log_every_n_steps` steps.

    `sampling/TASK` are the rows so far, `sampling_share/TASK` the task's share of the rows since the last point.
    `cost/memory_gib` is the most so far, of the GPU, or of the process on a CPU.

    Counts stay on the device between logs, so that counting never waits for it. Under several processes the numbers
    are those of all together, assuming that each does as much as the first.
    """

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self._since = time.perf_counter()
        self._tokens: Tensor = torch.zeros((), dtype=torch.long)
        self._places = self._examples = 0
        self._before: dict[str, int] = {}

    def state_dict(self) -> dict[str, Any]:
        """Rows drawn of each task so far, which a resumed run goes on counting."""
        return {"rows": dict(self.rows)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting."""
        self.rows = dict(state_dict["rows"])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the validation before this epoch out of the time."""
        self._reset()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Counts the batch; logs every so many steps."""
        for segment in batch.segments:
            self.rows[segment.task] = self.rows.get(segment.task, 0) + round(
                segment.denominator * trainer.world_size
            )
        mask = batch.tokens["attention_mask"]
        self._tokens = self._tokens + mask.sum()
        self._places += sum(
            (rows.stop - rows.start) * length for rows, length in length_groups(batch)
        )
        self._examples += len(mask)
        if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        seconds = time.perf_counter() - self._since
        tokens = int(self._tokens)
        new = {task: rows - self._before.get(task, 0) for task, rows in self.rows.items()}
        memory = peak_memory(pl_module.device)
        logged = {
            "cost/examples_per_second": self._examples * trainer.world_size / seconds,
            "cost/tokens_per_second": tokens * trainer.world_size / seconds,
            "cost/padding_share": 1 - tokens / self._places,
            **({"cost/memory_gib": memory / 2**30} if memory is not None else {}),
            **{f"sampling/{task}": float(rows) for task, rows in self.rows.items()},
            **{f"sampling_share/{task}": rows / sum(new.values()) for task, rows in new.items()},
            **{name: float(value) for name, value in trainer.datamodule.measured.items()},  # type: ignore[attr-defined]
        }
        pl_module.log_dict(logged, rank_zero_only=True, batch_size=1)
        self._reset()

    def _reset(self) -> None:
        self._since = time.perf_counter()
        self._tokens = torch.zeros((), dtype=torch.long)
        self._places = self._examples = 0
        self._before = dict(self.rows)
