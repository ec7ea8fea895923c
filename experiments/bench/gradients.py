"""Measures the cost of gradient surgery: ours, one backward pass per task, and torchjd's.

Each is compared with the plain joint training step on the same batches.
"""

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jsonargparse import auto_cli
from torch import Tensor
from torch.nn import functional as F
from torchjd.aggregation import PCGrad
from torchjd.autojac import jac_to_grad, mtl_backward

from experiments.bench.ca_mtl import random_base
from mtl.balancing import Balancer, Sum, Surgery
from mtl.balancing.shared_parameters import shared_parameters
from mtl.batch import Batch, EncodedExamples, collate
from mtl.methods import MultiHead
from mtl.modules.task_context import task_context
from mtl.system.bundled_encoder import bundled_encoder
from mtl.tasks import Source, Task


def main(
    bert_base: bool = False,
    tasks: list[int] | None = None,
    examples: list[int] | None = None,
    lengths: tuple[int, int] = (16, 64),
    rounds: int = 5,
    bf16: bool = False,
    contenders: list[str] | None = None,
) -> None:
    """Prints seconds and peak memory of a training step, and its time relative to the plain step.

    A step is the forward pass, the backward pass and the update.

    Args:
        bert_base: Use a randomly initialized BERT-base instead of the quickstart's backbone.
        tasks: Numbers of tasks. Default: 3, 4, 8 and 16.
        examples: Examples in a batch. Default: 32 and 64.
        lengths: Shortest and longest example in tokens.
        rounds: How often the contenders take turns. Medians are printed.
        bf16: Use bf16 autocast.
        contenders: Which contenders to compare with the plain step. Default: all.
    """
    with tempfile.TemporaryDirectory() as folder:
        backbone = random_base(folder) if bert_base else bundled_encoder()
        print("tasks examples tokens  contender            seconds  ratio  peak MB")
        for count in tasks or [3, 4, 8, 16]:
            for size in examples or [32, 64]:
                _compare(
                    Case(backbone, count, size, lengths, bf16),
                    rounds,
                    ["plain", *(contenders or CONTENDERS[1:])],
                )


CONTENDERS = (
    "plain",
    "ours, stored",
    "ours, two passes",
    "ours, auto",
    "one pass per task",
    "torchjd",
)


class Case(NamedTuple):
    """The configuration of a step."""

    backbone: str
    tasks: int
    examples: int
    lengths: tuple[int, int]
    bf16: bool


def _compare(case: Case, rounds: int, names: Sequence[str]) -> None:
    context = get_context("spawn")
    peaks = {}
    for name in names:  # memory is measured in a separate process
        with context.Pool(1) as pool:
            peaks[name] = pool.apply(_memory, (name, case))
    steps = {name: _make_step(name, case) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn:  # the first turn is a warm-up
                times[name].append(time.perf_counter() - start)
    _, batch = _tasks_and_batch(case)
    tokens = int(batch.tokens["attention_mask"].sum())
    plain = statistics.median(times["plain"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        size = f"{case.tasks:5} {case.examples:8} {tokens:6}"
        cost = f"{median:9.3f} {median / plain:6.2f} {peaks[name]:8.0f}"
        print(f"{size}  {name:18} {cost}", flush=True)


def _memory(name: str, case: Case) -> float:
    step = _make_step(name, case)
    step()
    forget_peak()
    step()
    return peak()


def _make_step(name: str, case: Case) -> Callable[[], None]:
    tasks, batch = _tasks_and_batch(case)
    if name == "torchjd":
        return _torchjd_step(case.backbone, tasks, batch, case.bf16)
    balancers: dict[str, Callable[[], Balancer]] = {
        "plain": Sum,
        "ours, stored": lambda: Surgery(PCGrad, mode="stored"),
        "ours, two passes": lambda: Surgery(PCGrad, mode="two_pass"),
        "ours, auto": lambda: Surgery(PCGrad),
        "one pass per task": _PassPerTask,
    }
    return _step(case.backbone, tasks, batch, balancers[name](), case.bf16)


def _tasks_and_batch(case: Case) -> tuple[list[Task], Batch]:
    tasks = [
        Task(
            name=f"t{index}",
            texts=["text"],
            label="label",
            classes=["no", "yes"],
            source=Source(path="."),
        )
        for index in range(case.tasks)
    ]
    return tasks, _batch([task.name for task in tasks], case.examples, case.lengths)


class _PassPerTask(Surgery):
    """Gradient surgery with one backward pass per task, which gives the same weights."""

    def __init__(self) -> None:
        super().__init__(PCGrad)

    def on_fit_start(self, method: Any, sizes: Mapping[str, int]) -> None:
        super().on_fit_start(method, sizes)
        self._separate_passes = True


def _batch(names: list[str], size: int, lengths: tuple[int, int]) -> Batch:
    """Random examples, equally many of each task. Tasks differ in length, as real ones do."""
    rng = np.random.default_rng(0)
    typical = np.linspace(*lengths, len(names))
    parts = []
    counts = np.diff(np.linspace(0, size, len(names) + 1).round())
    for index, (count, length) in enumerate(zip(counts, typical, strict=True)):
        ids = [
            rng.integers(1000, 20000, max(4, round(length * rng.uniform(0.9, 1.1))))
            for _ in range(int(count))
        ]
        types = [np.zeros(len(example), dtype=np.int64) for example in ids]
        labels = rng.integers(0, 2, len(ids))
        parts.append(
            EncodedExamples(
                index,
                {"input_ids": ids, "token_type_ids": types},
                labels,
                np.arange(len(ids)),
                float(len(ids)),
            )
        )
    return collate(parts, names, {})


def _step(
    backbone: str, tasks: list[Task], batch: Batch, balancer: Balancer, bf16: bool
) -> Callable[[], None]:
    method = MultiHead("cls", tasks=tasks, backbone=backbone, balancer=balancer).train()
    balancer.on_fit_start(method, {})
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-5, fused=True)
    size = len(batch.task_ids)

    def step() -> None:
        balancer.on_step_start(batch, seed=0)
        with (
            task_context(batch.segments, slice(0, size)),
            torch.autocast("cpu", torch.bfloat16, enabled=bf16),
        ):
            losses = method.task_losses(batch)
        balancer.backward(method.combined(batch, losses))
        optimizer.step()
        optimizer.zero_grad()

    return step


def _torchjd_step(backbone: str, tasks: list[Task], batch: Batch, bf16: bool) -> Callable[[], None]:
    method = MultiHead("cls", tasks=tasks, backbone=backbone).train()
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-5, fused=True)
    shared, aggregator = list(shared_parameters(method).values()), PCGrad()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            pooled = method.encoder(batch)
            features = [pooled[segment.examples] for segment in batch.segments]
            losses: list[Tensor] = []
            for segment, pooled_examples in zip(batch.segments, features, strict=True):
                losses.append(
                    F.cross_entropy(
                        method.heads[segment.task](pooled_examples).float(), segment.labels
                    )
                )
        mtl_backward(losses, features=features, shared_params=shared, parallel_chunk_size=1)
        jac_to_grad(shared, aggregator)
        optimizer.step()
        optimizer.zero_grad()

    return step


def forget_peak() -> None:
    """Resets the peak of the resident memory."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    """Peak of the resident memory since the last `forget_peak`, in megabytes."""
    status = Path("/proc/self/status").read_text()
    return (
        float(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
        / 1024
    )


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
