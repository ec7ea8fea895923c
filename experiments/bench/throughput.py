"""`mtl fit` against a plain PyTorch loop on the same batches: the same losses, and how many examples a second.

The plain loop knows nothing of Lightning or of this project's modules: transformers' encoder, a linear layer for each
task, torch's optimiser. It gets its batches ready made, from memory. The two take turns, round by round.
"""

import statistics
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import auto_cli
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from experiments.quickstart import bundled_encoder
from mtl.callbacks import ThroughputMonitor
from mtl.data import RoundRobinDataModule
from mtl.data.sources import open_split
from mtl.methods import MultiHead
from mtl.tasks import Task
from mtl.training.seeding import seed_step

Ready = tuple[str, dict[str, Tensor], Tensor, int, int]


class Watch(Callback):
    """Losses of all steps, and the seconds of those after the first few."""

    def __init__(self, skipped: int) -> None:
        self.skipped, self.losses, self.batches = (
            skipped,
            list[float](),
            list[tuple[str, list[int], int, int]](),
        )
        self.begun = self.ended = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Notes the step."""
        self.losses.append(float(outputs["loss"]))
        self.batches.append(
            (
                batch.segments[0].task,
                batch.segments[0].ids.tolist(),
                trainer.current_epoch,
                batch_idx,
            )
        )
        if len(self.losses) == self.skipped:
            self.begun = time.perf_counter()
        self.ended = time.perf_counter()


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
    """Prints the greatest difference of losses, examples a second of both, and their ratio in every round.

    Args:
        suite: File that lists the tasks.
        root: Folder of the tasks' rows, in place of their own sources.
        backbone: Pretrained encoder; the one of the quickstart where absent.
        steps: Steps of a round.
        skipped: First steps of a round, which are not timed.
        rounds: How often the two take turns.
        batch_size: Rows in a batch.
        max_examples: Training rows of a task at most.
    """
    backbone = backbone or bundled_encoder()
    tasks = [
        Task.read(suite.parent / name)
        for name in yaml.safe_load(suite.read_text(encoding="utf-8"))["tasks"]
    ]
    torch.manual_seed(0)
    start = MultiHead(tasks=tasks, backbone=backbone).state_dict()

    given = (tasks, backbone, start, root, steps, skipped, batch_size, max_examples)
    watch = framework(*given)
    ready = batches(tasks, backbone, root, watch.batches)
    examples = sum(len(labels) for _, _, labels, _, _ in ready[skipped:])
    ours, plain, ratios = [], [], []
    for number in range(rounds):
        watch = framework(*given)
        losses, seconds = loop(tasks, backbone, start, ready, skipped)
        if number == 0:
            difference = max(
                abs(one - other) for one, other in zip(watch.losses, losses, strict=True)
            )
            print(
                f"{len(losses)} steps, greatest difference of losses {difference:.1e}, last loss {losses[-1]:.6f}"
            )
        ours.append(examples / (watch.ended - watch.begun))
        plain.append(examples / seconds)
        ratios.append(ours[-1] / plain[-1])
        print(
            f"round {number + 1}: mtl {ours[-1]:.1f}, plain loop {plain[-1]:.1f} examples a second, ratio {ratios[-1]:.3f}"
        )
    middle = [statistics.median(values) for values in (ours, plain, ratios)]
    print(
        f"median: mtl {middle[0]:.1f}, plain loop {middle[1]:.1f} examples a second, ratio {middle[2]:.3f}"
    )


def framework(
    tasks: list[Task],
    backbone: str,
    start: dict[str, Tensor],
    root: Path | None,
    steps: int,
    skipped: int,
    batch_size: int,
    max_examples: int,
) -> Watch:
    """What `mtl fit` runs: Trainer, logger, counters, clipping."""
    module = MultiHead(tasks=tasks, backbone=backbone)
    module.load_state_dict(start)
    data = RoundRobinDataModule(
        tasks=tasks, backbone=backbone, root=root, batch_size=batch_size, max_examples=max_examples
    )
    watch = Watch(skipped)
    trainer = Trainer(
        max_steps=steps,
        max_epochs=1000,
        gradient_clip_val=1.0,
        log_every_n_steps=10,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=[ThroughputMonitor(), watch],
        logger=TensorBoardLogger("runs/bench", name="throughput", default_hp_metric=False),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return watch


def batches(
    tasks: list[Task], backbone: str, root: Path | None, rows: list[tuple[str, list[int], int, int]]
) -> list[Ready]:
    """The same rows, read and tokenised once more without the project's encoding, padding or collation."""
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    records = {
        task.name: list(open_split(task, task.splits.train, root).records()) for task in tasks
    }
    by_name = {task.name: task for task in tasks}
    made = []
    for name, ids, epoch, step in rows:
        task, chosen = by_name[name], [records[name][row] for row in ids]
        texts = [[str(record[column]) for record in chosen] for column in task.texts]
        tokens = tokenizer(
            *texts, truncation="longest_first", max_length=128, padding=True, return_tensors="pt"
        )
        values = [record[task.label] for record in chosen]
        numbers = [
            float(v) if task.regression else task.classes.index(v) if v in task.classes else int(v)
            for v in values
        ]
        made.append((name, dict(tokens), torch.tensor(numbers), epoch, step))
    return made


def loop(
    tasks: list[Task], backbone: str, start: dict[str, Tensor], ready: list[Ready], skipped: int
) -> tuple[list[float], float]:
    """The loop that one would write by hand; gives losses and seconds after the first few steps."""
    encoder = AutoModel.from_pretrained(backbone, add_pooling_layer=False)
    encoder.load_state_dict(
        {
            k.removeprefix("encoder.backbone."): v
            for k, v in start.items()
            if k.startswith("encoder.")
        }
    )
    heads = nn.ModuleDict(
        {task.name: nn.Linear(encoder.config.hidden_size, task.outputs) for task in tasks}
    )
    heads.load_state_dict(
        {
            k.removeprefix("heads.").replace(".1.", "."): v
            for k, v in start.items()
            if k.startswith("heads.")
        }
    )
    encoder.train()
    parameters = [*encoder.parameters(), *heads.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=5e-5, fused=True)
    steps, warmup = len(ready), round(0.1 * len(ready))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: step / warmup if step < warmup else (steps - step) / (steps - warmup),
    )
    losses = []
    begun = time.perf_counter()
    for number, (name, tokens, labels, epoch, step) in enumerate(ready):
        seed_step(42, epoch, step, 0)  # the same dropout
        states = encoder(**tokens).last_hidden_state[:, 0]
        logits = heads[name](F.dropout(states, 0.1))
        loss = (
            F.cross_entropy(logits, labels)
            if labels.dtype == torch.int64
            else F.mse_loss(logits[:, 0], labels)
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss))
        if number + 1 == skipped:
            begun = time.perf_counter()
    return losses, time.perf_counter() - begun


if __name__ == "__main__":
    auto_cli(throughput, as_positional=False)
