"""What the sampling schemes draw, what drawing costs, and the cost of uncertainty sampling."""

import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from jsonargparse import auto_cli
from lightning.pytorch.plugins import MixedPrecision, Precision
from scipy import stats

from experiments.bench.padding import evenly_spaced, training_speed
from experiments.bench.schemes import scheme, steps_of, suite_tasks
from mtl.batch import select_examples
from mtl.data.order import Order, Stream
from mtl.data.proportional import WeightedOrder
from mtl.data.round_robin import RoundRobinOrder
from mtl.data.sequential import ConcatOrder, TaskByTaskOrder
from mtl.methods import MultiHead
from mtl.system.bundled_encoder import bundled_encoder

# A task's share is proportional to N to the power of this exponent, for N examples; annealed
# sampling changes it from epoch to epoch.
PROMISED = {
    "sequential": 1.0,
    "by_task": 1.0,
    "proportional": 1.0,
    "square_root": 0.5,
    "uniform": 0.0,
    "round_robin": 0.0,
}
# Schemes whose shares are of examples; those of the others are of batches.
BY_EXAMPLES = ("sequential", "by_task")


def shares(
    suite: Path = Path("configs/suites/glue.yaml"),
    root: Path | None = None,
    backbone: str | None = None,
    batch_size: int = 32,
    epochs: int = 5,
) -> None:
    """Prints each task's share of the batches (or examples) drawn, and the expected share.

    Args:
        suite: File that lists the tasks.
        root: Folder with a sub-folder for each task, which replaces the tasks' sources.
        backbone: Pretrained encoder. Default: that of the quickstart.
        batch_size: Examples in a batch.
        epochs: Epochs drawn; also the number of epochs that annealed sampling anneals over.
    """
    tasks, backbone = suite_tasks(suite), backbone or bundled_encoder()
    print(f"{'scheme':14}{'epoch':>6}{'':10}" + "".join(f"{task.name:>8}" for task in tasks))
    cases = [(name, range(epochs), alpha) for name, alpha in PROMISED.items()]
    cases += [
        ("annealed", range(epoch, epoch + 1), 1 - 0.8 * epoch / max(1, epochs - 1))
        for epoch in range(epochs)
    ]
    for name, drawn_epochs, alpha in cases:
        data = scheme(name, tasks=tasks, backbone=backbone, root=root, batch_size=batch_size)
        data.trainer = cast(Any, SimpleNamespace(max_epochs=epochs))
        order = data.order(data.streams())
        counts = np.zeros(len(tasks))
        for epoch in drawn_epochs:
            for step in range(order.steps):
                for draw in order(epoch, step):
                    counts[draw.task] += len(draw.examples) if name in BY_EXAMPLES else 1
        expected = np.array(list(data.sizes.values()), float) ** alpha
        expected /= expected.sum()
        when = f"{drawn_epochs.start + 1}" if len(drawn_epochs) == 1 else f"1-{epochs}"
        chance = stats.chisquare(counts, expected * counts.sum()).pvalue
        print(f"{name:14}{when:>6} {'expected':9}" + "".join(f"{share:8.2%}" for share in expected))
        drawn_shares = "".join(f"{share:8.2%}" for share in counts / counts.sum())
        print(f"{'':21}{'drawn':9}{drawn_shares}   chi-squared p {chance:.3f}", flush=True)


def cost(batch_size: int = 32, steps: int = 2000) -> None:
    """Prints the time to draw a step, from a hundred million examples and from a thousand tasks.

    Args:
        batch_size: Examples in a batch.
        steps: Consecutive steps; a tenth as many are also drawn at random positions.
    """
    chance = np.random.default_rng(0)
    print(f"{'scheme':14}{'tasks':>6}{'examples':>14}{'in order':>11}{'slowest':>11}{'random':>11}")
    for sizes in ([100_000_000, 400_000, 60_000, 3_000], [100_000] * 1000):
        lengths = [chance.integers(5, 128, size) if len(sizes) > 9 else None for size in sizes]
        streams = [
            Stream(task, size, batch_size, 1, lengths[task]) for task, size in enumerate(sizes)
        ]
        batches = [stream.batches for stream in streams]
        orders: dict[str, Order] = {
            "round robin": RoundRobinOrder(streams, max(batches)),
            "sequential": ConcatOrder(streams, batch_size, 1),
            "by task": TaskByTaskOrder(streams),
            "proportional": WeightedOrder(streams, sizes, [1.0], sum(batches), 1),
            "annealed": WeightedOrder(streams, sizes, [1.0, 0.2], sum(batches), 1),
        }
        for name, order in orders.items():
            through = [draw_time(order, step) for step in range(steps)]
            jumps = [
                draw_time(order, int(step))
                for step in chance.integers(order.steps, size=steps // 10)
            ]
            times = (statistics.mean(through), max(through), statistics.mean(jumps))
            print(
                f"{name:14}{len(sizes):6}{sum(sizes):14,}"
                + "".join(f"{seconds * 1e3:8.2f} ms" for seconds in times),
                flush=True,
            )


def uncertainty(
    suite: Path = Path("configs/suites/glue.yaml"),
    root: Path | None = None,
    backbone: str | None = None,
    batch_size: int = 32,
    steps: int = 6,
    rounds: int = 5,
    bf16: bool = False,
) -> None:
    """Prints the cost of a step of uncertainty sampling relative to a lower bound.

    The bound is one ordinary step on the selected examples, plus a third of an ordinary step on
    each task's candidates: scoring is a forward pass only, and a step has a forward pass and a
    backward pass at twice the cost.

    Args:
        suite: File that lists the tasks.
        root: Folder with a sub-folder for each task, which replaces the tasks' sources.
        backbone: Pretrained encoder. Default: that of the quickstart.
        batch_size: Examples in a batch.
        steps: Steps in a round, spread over an epoch.
        rounds: Repetitions of the measurement.
        bf16: Whether matrix products are computed in bf16.
    """
    tasks, backbone = suite_tasks(suite), backbone or bundled_encoder()
    data = scheme("uncertainty", tasks=tasks, backbone=backbone, root=root, batch_size=batch_size)
    module = MultiHead(tasks=tasks, backbone=backbone)
    plugin = MixedPrecision("bf16-mixed", "cpu") if bf16 else Precision()
    trainer = {
        "training": True,
        "lightning_module": module,
        "precision_plugin": plugin,
        "world_size": 1,
        "global_rank": 0,
    }
    data.trainer = cast(Any, SimpleNamespace(**trainer))
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)
    batches = evenly_spaced(steps_of(data), steps)
    by_task = [
        select_examples(batch, torch.arange(segment.examples.start, segment.examples.stop))
        for batch in batches
        for segment in batch.segments
    ]
    ratios = []
    for number in range(rounds):
        start = time.perf_counter()
        selected = [data.on_after_batch_transfer(batch, 0) for batch in batches]
        scoring = time.perf_counter() - start
        training = sum(len(batch.task_ids) for batch in selected) / training_speed(
            module, optimizer, selected, bf16
        )
        ordinary = sum(len(batch.task_ids) for batch in by_task) / training_speed(
            module, optimizer, by_task, bf16
        )
        bound = training + ordinary / 3
        ratios.append((scoring + training) / bound)
        ordinary_steps = (scoring + training) * len(tasks) / ordinary
        print(
            f"round {number + 1}: scoring {scoring / steps:.3f} s, step on the selected examples "
            f"{training / steps:.3f} s, ordinary steps on all candidates {ordinary / steps:.3f} s: "
            f"{ratios[-1]:.3f} of the bound, {ordinary_steps:.2f} ordinary steps "
            f"(1 + C/3 = {1 + len(tasks) / 3:.2f})",
            flush=True,
        )
    print(f"median: {statistics.median(ratios):.3f} of the bound")


def draw_time(order: Order, step: int) -> float:
    """Seconds to draw a step."""
    start = time.perf_counter()
    order(1, step)
    return time.perf_counter() - start


if __name__ == "__main__":
    auto_cli([shares, cost, uncertainty], as_positional=False)
