"""Measures the cost of SMART: a training step with it and one without, on the same batches."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from jsonargparse import auto_cli

from experiments.bench.ca_mtl import random_base
from experiments.bench.padding import evenly_spaced
from experiments.bench.schemes import scheme, steps_of, suite_tasks
from mtl.batch import Batch
from mtl.methods import MultiHead
from mtl.regularizers import SMART
from mtl.system.bundled_encoder import bundled_encoder


def main(
    suite: Path = Path("configs/suites/single_vs_multi.yaml"),
    root: Path | None = None,
    bert_base: bool = False,
    batch_size: int = 16,
    batches: int = 3,
    rounds: int = 5,
    bf16: bool = False,
) -> None:
    """Prints seconds of a training step, and its time relative to the step without SMART.

    A step is the forward pass, the backward pass and the update.

    Args:
        suite: YAML file with a list of tasks.
        root: Folder with the tasks' data. Default: the tasks' own sources.
        bert_base: Use a randomly initialized BERT-base instead of the quickstart's backbone.
        batch_size: Examples of each task in a batch.
        batches: Steps per round, spread over an epoch.
        rounds: How often the contenders take turns. Medians are printed.
        bf16: Use bf16 autocast.
    """
    tasks = suite_tasks(suite)
    with tempfile.TemporaryDirectory() as folder:
        backbone = random_base(folder) if bert_base else bundled_encoder()
        data = scheme("mixed", tasks=tasks, backbone=backbone, root=root, batch_size=batch_size)
        batch_list = evenly_spaced(steps_of(data), batches)
        regularizers = {
            "without": None,
            "smoothness": SMART(proximal=0.0),
            "smoothness and proximal": SMART(),
            "pooled": SMART(proximal=0.0, target="pooled"),
        }
        steps = {
            name: _step(MultiHead(tasks=tasks, backbone=backbone, regularizer=regularizer), bf16)
            for name, regularizer in regularizers.items()
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(rounds + 1):
            for name, step in steps.items():
                start = time.perf_counter()
                for batch in batch_list:
                    step(batch)
                if turn:  # the first turn is a warm-up
                    times[name].append((time.perf_counter() - start) / len(batch_list))
        plain = statistics.median(times["without"])
        for name, seconds in times.items():
            median = statistics.median(seconds)
            print(f"{name:24} {median:7.3f} s  {median / plain:5.2f}")


def _step(method: MultiHead, bf16: bool) -> Callable[[Batch], None]:
    method.train()
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-5, fused=True)
    if method.regularizer is not None:
        method.regularizer.on_fit_start(method, {})

    def step(batch: Batch) -> None:
        if method.regularizer is not None:
            method.regularizer.on_step_start(batch, seed=0)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses = method.task_losses(batch)
        method.combined(batch, losses).backward()
        optimizer.step()
        optimizer.zero_grad()
        if method.regularizer is not None:
            method.training_progress = 0.5
            method.regularizer.on_step_end(losses)

    return step


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
