"""`mtl fit` against a plain PyTorch loop on the same batches.

Equal losses, and examples per second.

The plain loop uses neither Lightning nor this project's modules: an encoder of transformers, a
linear layer for each task, an optimizer of torch. Its batches are prepared in memory. The two take
turns, round by round.
"""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jsonargparse import auto_cli
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from experiments.bench.schemes import suite_tasks
from mtl.callbacks import ThroughputMonitor
from mtl.data import RoundRobinDataModule
from mtl.data.sources import open_split
from mtl.methods import MultiHead
from mtl.system.bundled_encoder import bundled_encoder
from mtl.tasks import Task
from mtl.training.seeding import seed_step


class DrawnBatch(NamedTuple):
    """The examples of a training step, which hold one task."""

    task: str
    ids: list[int]
    epoch: int
    batch_idx: int


class PlainBatch(NamedTuple):
    """The same examples, prepared for the plain loop."""

    drawn: DrawnBatch
    tokens: dict[str, Tensor]
    labels: Tensor


@dataclass(frozen=True)
class Setting:
    """What both loops train.

    Args:
        tasks: The tasks.
        backbone: Pretrained encoder.
        start: Weights at the start.
        root: Folder of the tasks' data.
        steps: Steps per round.
        skipped: Steps at the start of a round that are not timed.
        batch_size: Examples per batch.
        max_examples: Maximum number of training examples per task.
    """

    tasks: list[Task]
    backbone: str
    start: dict[str, Tensor]
    root: Path | None
    steps: int
    skipped: int
    batch_size: int
    max_examples: int


class StepRecorder(Callback):
    """Records losses and batches of all steps, and the time of the steps after the skipped ones.

    Args:
        skipped: Steps at the start that are not timed.
    """

    def __init__(self, skipped: int) -> None:
        self.skipped = skipped
        self.losses: list[float] = []
        self.batches: list[DrawnBatch] = []
        self.start = self.end = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of the timed steps."""
        return self.end - self.start

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Records the step."""
        self.losses.append(float(outputs["loss"]))
        [segment] = batch.segments
        self.batches.append(
            DrawnBatch(segment.task, segment.ids.tolist(), trainer.current_epoch, batch_idx)
        )
        if len(self.losses) == self.skipped:
            self.start = time.perf_counter()
        self.end = time.perf_counter()


def throughput(
    suite: Path = Path("configs/suites/samples.yaml"),
    root: Path | None = None,
    backbone: str | None = None,
    steps: int = 60,
    skipped: int = 10,
    rounds: int = 5,
    batch_size: int = 32,
    max_examples: int = 2000,
) -> None:
    """Prints the largest difference of losses, examples per second of both loops.

    And their ratio in every round.

    Args:
        suite: File that lists the tasks.
        root: Folder of the tasks' data. Default: the tasks' own sources.
        backbone: Pretrained encoder. Default: the quickstart's.
        steps: Steps per round.
        skipped: Steps at the start of a round that are not timed.
        rounds: Number of rounds; the loops take turns.
        batch_size: Examples per batch.
        max_examples: Maximum number of training examples per task.
    """
    backbone, tasks = backbone or bundled_encoder(), suite_tasks(suite)
    torch.manual_seed(0)
    start = MultiHead(tasks=tasks, backbone=backbone).state_dict()
    setting = Setting(tasks, backbone, start, root, steps, skipped, batch_size, max_examples)
    prepared = plain_batches(setting, run_mtl(setting).batches)
    examples = sum(len(batch.labels) for batch in prepared[skipped:])
    ours, plain, ratios = [], [], []
    for number in range(rounds):
        recorder = run_mtl(setting)
        losses, seconds = run_plain(setting, prepared)
        if number == 0:
            pairs = zip(recorder.losses, losses, strict=True)
            difference = max(abs(one - other) for one, other in pairs)
            print(
                f"{len(losses)} steps, largest difference of losses {difference:.1e}, last loss "
                f"{losses[-1]:.6f}"
            )
        ours.append(examples / recorder.seconds)
        plain.append(examples / seconds)
        ratios.append(ours[-1] / plain[-1])
        print(_line(f"round {number + 1}", ours[-1], plain[-1], ratios[-1]))
    print(_line("median", *map(statistics.median, (ours, plain, ratios))))


def _line(title: str, ours: float, plain: float, ratio: float) -> str:
    return f"{title}: mtl {ours:.1f}, plain loop {plain:.1f} examples/s, ratio {ratio:.3f}"


def run_mtl(setting: Setting) -> StepRecorder:
    """Trains as `mtl fit` does: Trainer, logger, throughput monitor, gradient clipping."""
    common: dict[str, Any] = {"tasks": setting.tasks, "backbone": setting.backbone}
    module = MultiHead(**common)
    module.load_state_dict(setting.start)
    data = RoundRobinDataModule(
        root=setting.root,
        batch_size=setting.batch_size,
        max_examples=setting.max_examples,
        **common,
    )
    recorder = StepRecorder(setting.skipped)
    trainer = Trainer(
        max_steps=setting.steps,
        max_epochs=1000,
        gradient_clip_val=1.0,
        log_every_n_steps=10,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=[ThroughputMonitor(), recorder],
        logger=TensorBoardLogger("runs/bench", name="throughput", default_hp_metric=False),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return recorder


def plain_batches(setting: Setting, drawn: list[DrawnBatch]) -> list[PlainBatch]:
    """Reads and tokenizes the drawn examples without the project's encoding.

    Padding or collation.
    """
    tokenizer = AutoTokenizer.from_pretrained(setting.backbone)
    by_name = {task.name: task for task in setting.tasks}
    records = {
        task.name: list(open_split(task, task.splits.train, setting.root).records())
        for task in setting.tasks
    }
    batches = []
    for batch in drawn:
        task, chosen = by_name[batch.task], [records[batch.task][index] for index in batch.ids]
        texts = [[str(record[column]) for record in chosen] for column in task.texts]
        tokens = tokenizer(
            *texts, truncation="longest_first", max_length=128, padding=True, return_tensors="pt"
        )
        read_label = task.kind.label_reader(task.source.labels)
        labels = [read_label(record[task.label]) for record in chosen]
        batches.append(PlainBatch(batch, dict(tokens), torch.tensor(labels)))
    return batches


def run_plain(setting: Setting, batches: list[PlainBatch]) -> tuple[list[float], float]:
    """Trains with a hand-written loop; returns all losses, and the seconds of the timed steps."""
    encoder = AutoModel.from_pretrained(setting.backbone, add_pooling_layer=False)
    encoder.load_state_dict(_weights(setting.start, "encoder.", "encoder.backbone."))
    width = encoder.config.hidden_size
    heads = nn.ModuleDict(
        {task.name: nn.Linear(width, task.kind.output_size) for task in setting.tasks}
    )
    linear = _weights(setting.start, "heads.", "heads.")
    heads.load_state_dict({name.replace(".1.", "."): value for name, value in linear.items()})
    encoder.train()
    parameters = [*encoder.parameters(), *heads.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=5e-5, fused=True)
    steps, warmup = len(batches), round(0.1 * len(batches))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: step / warmup if step < warmup else (steps - step) / (steps - warmup),
    )
    losses = []
    start = time.perf_counter()
    for number, (drawn, tokens, labels) in enumerate(batches, 1):
        seed_step(42, drawn.epoch, drawn.batch_idx, 0)  # the same dropout masks
        states = encoder(**tokens).last_hidden_state[:, 0]
        logits = heads[drawn.task](F.dropout(states, 0.1))
        is_class = labels.dtype == torch.int64
        loss = F.cross_entropy(logits, labels) if is_class else F.mse_loss(logits[:, 0], labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss))
        if number == setting.skipped:
            start = time.perf_counter()
    return losses, time.perf_counter() - start


def _weights(state: dict[str, Tensor], start: str, prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin with `start`, without their prefix."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(start)
    }


if __name__ == "__main__":
    auto_cli(throughput, as_positional=False)
