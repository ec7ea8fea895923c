"""What the sampling schemes draw and what drawing costs; what a step of uncertainty sampling costs."""

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

from experiments.bench.padding import spread, trained
from experiments.bench.schemes import scheme, steps_of, suite_tasks
from experiments.quickstart import bundled_encoder
from mtl.batch import select_examples
from mtl.data.order import Order, Stream
from mtl.data.proportional import WeightedOrder
from mtl.data.round_robin import RoundRobinOrder
from mtl.data.sequential import ConcatOrder, TaskByTaskOrder
from mtl.methods import MultiHead

# Exponent of N that each scheme promises for the share of a task's rows; annealed sampling changes it from epoch to epoch.
PROMISED = {
    "sequential": 1.0,
    "by_task": 1.0,
    "proportional": 1.0,
    "square_root": 0.5,
    "uniform": 0.0,
    "round_robin": 0.0,
}
# Schemes that promise rows; the others promise batches.
ROWS = ("sequential", "by_task")


def shares(
    suite: Path = Path("configs/suites/glue.yaml"),
    root: Path | None = None,
    backbone: str | None = None,
    batch_size: int = 32,
    epochs: int = 5,
) -> None:
    """Prints each task's share of the batches (or rows) drawn in a few epochs beside the promised one.

    Args:
        suite: File that lists the tasks.
        root: Folder of the tasks' rows, in place of their own sources.
        backbone: Pretrained encoder; the one of the quickstart where absent.
        batch_size: Rows in a batch.
        epochs: Epochs drawn; of annealed sampling, also the number that it anneals over.
    """
    tasks, backbone = suite_tasks(suite), backbone or bundled_encoder()
    print(f"{'scheme':14}{'epoch':>6}{'':10}" + "".join(f"{task.name:>8}" for task in tasks))
    wanted = [(name, range(epochs), alpha) for name, alpha in PROMISED.items()]
    wanted += [
        ("annealed", range(epoch, epoch + 1), 1 - 0.8 * epoch / max(1, epochs - 1))
        for epoch in range(epochs)
    ]
    for name, drawn_epochs, alpha in wanted:
        data = scheme(name, tasks=tasks, backbone=backbone, root=root, batch_size=batch_size)
        data.trainer = cast(Any, SimpleNamespace(max_epochs=epochs))
        order = data.order(data.streams())
        found = np.zeros(len(tasks))
        for epoch in drawn_epochs:
            for step in range(order.steps):
                for draw in order(epoch, step):
                    found[draw.task] += len(draw.examples) if name in ROWS else 1
        promised = np.array(list(data.sizes.values()), float) ** alpha
        promised /= promised.sum()
        when = f"{drawn_epochs.start + 1}" if len(drawn_epochs) == 1 else f"1-{epochs}"
        chance = stats.chisquare(found, promised * found.sum()).pvalue
        print(f"{name:14}{when:>6} {'promised':9}" + "".join(f"{share:8.2%}" for share in promised))
        drawn_shares = "".join(f"{share:8.2%}" for share in found / found.sum())
        print(f"{'':21}{'drawn':9}{drawn_shares}   chi-squared p {chance:.3f}", flush=True)


def cost(batch_size: int = 32, steps: int = 2000) -> None:
    """Prints what drawing a step costs, at a hundred million rows and with a thousand tasks, by arithmetic alone.

    Args:
        batch_size: Rows in a batch.
        steps: Steps in a row; as many as a tenth of them are also asked for at random places.
    """
    chance = np.random.default_rng(0)
    print(f"{'scheme':14}{'tasks':>6}{'rows':>14}{'in a row':>11}{'worst':>11}{'anywhere':>11}")
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
            through = [drawn(order, step) for step in range(steps)]
            jumps = [
                drawn(order, int(step)) for step in chance.integers(order.steps, size=steps // 10)
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
    """Prints what a step of uncertainty sampling costs against its floor.

    The floor is one ordinary step on the rows chosen, and a third of an ordinary step on each task's candidates: scoring
    goes forward only, and a step goes forward once and backward at twice the cost.

    Args:
        suite: File that lists the tasks.
        root: Folder of the tasks' rows, in place of their own sources.
        backbone: Pretrained encoder; the one of the quickstart where absent.
        batch_size: Rows in a batch.
        steps: Steps in a round, spread over an epoch.
        rounds: How often the kinds of step take turns.
        bf16: Whether products are in bf16.
    """
    tasks, backbone = suite_tasks(suite), backbone or bundled_encoder()
    data = scheme("uncertainty", tasks=tasks, backbone=backbone, root=root, batch_size=batch_size)
    module = MultiHead(tasks=tasks, backbone=backbone)
    plugin = MixedPrecision("bf16-mixed", "cpu") if bf16 else Precision()
    given = {
        "training": True,
        "lightning_module": module,
        "precision_plugin": plugin,
        "world_size": 1,
        "global_rank": 0,
    }
    data.trainer = cast(Any, SimpleNamespace(**given))
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)
    made = spread(steps_of(data), steps)
    apart = [
        select_examples(batch, torch.arange(segment.examples.start, segment.examples.stop))
        for batch in made
        for segment in batch.segments
    ]
    ratios = []
    for number in range(rounds):
        begun = time.perf_counter()
        chosen = [data.on_after_batch_transfer(batch, 0) for batch in made]
        scoring = time.perf_counter() - begun
        training = sum(len(batch.task_ids) for batch in chosen) / trained(
            module, optimizer, chosen, bf16
        )
        ordinary = sum(len(batch.task_ids) for batch in apart) / trained(
            module, optimizer, apart, bf16
        )
        floor = training + ordinary / 3
        ratios.append((scoring + training) / floor)
        print(
            f"round {number + 1}: scoring {scoring / steps:.3f} s, step on the chosen rows {training / steps:.3f} s, ordinary "
            f"steps on all candidates {ordinary / steps:.3f} s: {ratios[-1]:.3f} of the floor, "
            f"{(scoring + training) * len(tasks) / ordinary:.2f} ordinary steps (1 + C/3 = {1 + len(tasks) / 3:.2f})",
            flush=True,
        )
    print(f"median: {statistics.median(ratios):.3f} of the floor")


def drawn(order: Order, step: int) -> float:
    """Seconds that a draw takes."""
    begun = time.perf_counter()
    order(1, step)
    return time.perf_counter() - begun


if __name__ == "__main__":
    auto_cli([shares, cost, uncertainty], as_positional=False)
