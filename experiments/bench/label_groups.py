"""Measures the cost of several labels per text: a training step with one, two and four tasks."""

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from jsonargparse import auto_cli

from mtl.batch import Batch
from mtl.data import RoundRobinDataModule
from mtl.data.loader import StepDataset
from mtl.methods import MultiHead
from mtl.system.bundled_encoder import bundled_encoder
from mtl.tasks import Source, Task

WORDS = "the message says that my order did not arrive and nobody has answered me since".split()
EXAMPLES = 640


def main(
    counts: tuple[int, ...] = (1, 2, 4),
    batch_size: int = 32,
    batches: int = 4,
    rounds: int = 7,
    once: bool = True,
) -> None:
    """Prints seconds of a training step, and its time relative to that with the first count.

    A step is the forward pass, the backward pass and the update.

    Args:
        counts: Numbers of label columns.
        batch_size: Texts in a batch.
        batches: Steps per round.
        rounds: How often the contenders take turns. Medians are printed.
        once: Whether a text passes through the encoder once for all tasks.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_texts(folder, max(counts))
        contenders = {count: _contender(folder, count, batch_size, once) for count in counts}
        times: dict[int, list[float]] = {count: [] for count in counts}
        for turn in range(rounds + 1):
            for count, (step, dataset) in contenders.items():
                chosen = [dataset[index] for index in range(batches)]
                start = time.perf_counter()
                for batch in chosen:
                    step(batch)
                if turn:  # the first turn is a warm-up
                    times[count].append((time.perf_counter() - start) / batches)
    first = statistics.median(times[counts[0]])
    for count, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{count} labels per text  {median:7.3f} s per step  {median / first:5.2f}")


def _write_texts(folder: Path, columns: int) -> None:
    draw = random.Random(0)
    with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(EXAMPLES):
            text = " ".join(draw.choices(WORDS, k=draw.randint(8, 48)))
            labels = {f"label{column}": draw.choice("abc") for column in range(columns)}
            file.write(json.dumps({"text": text, **labels}) + "\n")


def _contender(
    folder: Path, count: int, batch_size: int, once: bool
) -> tuple[Callable[[Batch], None], StepDataset]:
    source = Source(path=str(folder))
    tasks = [
        Task(f"task{index}", ["text"], source, label=f"label{index}", classes=list("abc"))
        for index in range(count)
    ]
    backbone = str(bundled_encoder())
    data = RoundRobinDataModule(
        tasks=tasks, backbone=backbone, cache=folder / "cache", batch_size=batch_size
    )
    data.train_splits = data._open_training()
    method = MultiHead(tasks=tasks, backbone=backbone).train()
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-5, fused=True)

    def step(batch: Batch) -> None:
        losses = method.task_losses(batch)
        method.combined(batch, losses).backward()
        optimizer.step()
        optimizer.zero_grad()

    names = [task.name for task in tasks]
    order = data.order(data.streams())
    return step, StepDataset(order, data.drawn, names, {}, "train", once=once)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
