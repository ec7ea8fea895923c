"""The effect of length grouping on padding, speed and scores, scheme by scheme.

`plain` shuffles examples regardless of length and pads a batch to its longest example, as most
libraries do. `grouped` puts examples of similar length into a batch, and encodes tasks of different
lengths in separate passes.
"""

import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from jsonargparse import auto_cli

from experiments.bench.schemes import PLAIN, SAMPLING, scheme, steps_of, suite_tasks
from mtl.batch import Batch, length_groups
from mtl.data.loader import StepDataset
from mtl.methods import MultiHead
from mtl.modules import Encoder
from mtl.system.bundled_encoder import bundled_encoder


def share(
    suite: Path = Path("configs/suites/glue.yaml"),
    root: Path | None = None,
    backbone: str | None = None,
    batch_size: int = 32,
    batches: int = 600,
) -> None:
    """Prints the share of padding among the tokens that the encoder computes.

    Args:
        suite: File that lists the tasks.
        root: Folder with a sub-folder for each task, which replaces the tasks' sources.
        backbone: Pretrained encoder. Default: that of the quickstart.
        batch_size: Examples in a batch.
        batches: Number of batches, evenly spaced over an epoch.
    """
    tasks, backbone = suite_tasks(suite), backbone or bundled_encoder()
    print(f"{'scheme':14}{'plain':>8}{'grouped':>9}{'passes':>8}")
    for name in PLAIN:
        shares = []
        for grouped in (False, True):
            data = scheme(
                name,
                tasks=tasks,
                backbone=backbone,
                root=root,
                batch_size=batch_size,
                group_by_length=grouped,
            )
            drawn = evenly_spaced(steps_of(data), batches)
            tokens = sum(int(batch.tokens["attention_mask"].sum()) for batch in drawn)
            padded = sum(batch.tokens["attention_mask"].numel() for batch in drawn)
            groups = [length_groups(batch) for batch in drawn]
            computed = sum(
                (examples.stop - examples.start) * length
                for passes in groups
                for examples, length in passes
            )
            shares.append(1 - tokens / (computed if grouped else padded))
        mean_passes = sum(map(len, groups)) / len(groups)
        print(f"{name:14}{shares[0]:8.1%}{shares[1]:9.1%}{mean_passes:8.1f}", flush=True)


def speed(
    suite: Path = Path("configs/suites/glue.yaml"),
    root: Path | None = None,
    backbone: str | None = None,
    batch_size: int = 32,
    examples: int = 288,
    rounds: int = 3,
    bf16: bool = False,
) -> None:
    """Prints the training speed in examples per second, plain and grouped, and the ratio.

    Args:
        suite: File that lists the tasks.
        root: Folder with a sub-folder for each task, which replaces the tasks' sources.
        backbone: Pretrained encoder. Default: that of the quickstart.
        batch_size: Examples in a batch.
        examples: Examples of a round, in batches evenly spaced over an epoch; at least one batch.
        rounds: Repetitions of the measurement.
        bf16: Whether matrix products are computed in bf16.
    """
    tasks, backbone = suite_tasks(suite), backbone or bundled_encoder()
    module = MultiHead(tasks=tasks, backbone=backbone)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)
    print(
        f"{'scheme':14}{'plain':>8}{'grouped':>9}{'ratio':>7}   "
        f"(examples per second, median of {rounds})"
    )
    for name in PLAIN:
        batches = []
        for grouped in (False, True):
            data = scheme(
                name,
                tasks=tasks,
                backbone=backbone,
                root=root,
                batch_size=batch_size,
                group_by_length=grouped,
            )
            size = batch_size * (len(tasks) if data.tasks_per_batch == "all" else 1)
            batches.append(evenly_spaced(steps_of(data), max(1, examples // size)))
        plain = [one_rectangle(batch) for batch in batches[0]]
        speeds = [
            (
                training_speed(module, optimizer, plain, bf16),
                training_speed(module, optimizer, batches[1], bf16),
            )
            for _ in range(rounds)
        ]
        middle = [statistics.median(speed) for speed in zip(*speeds, strict=True)]
        ratio = statistics.median(grouped / plain for plain, grouped in speeds)
        print(f"{name:14}{middle[0]:8.1f}{middle[1]:9.1f}{ratio:7.2f}", flush=True)


def scores(
    suite: Path = Path("configs/suites/glue.yaml"),
    root: Path | None = None,
    backbone: str | None = None,
    max_examples: int = 500,
    epochs: int = 2,
    seeds: list[int] | None = None,
    sampling: str = "sequential",
    precision: str = "32-true",
    out: Path = Path("runs/bench/padding"),
) -> None:
    """Trains with and without grouping by `mtl fit`; prints the mean validation scores.

    Args:
        suite: File that lists the tasks.
        root: Folder with a sub-folder for each task, which replaces the tasks' sources.
        backbone: Pretrained encoder. Default: that of the quickstart.
        max_examples: Maximum number of training examples of each task.
        epochs: Number of epochs.
        seeds: Seeds. Default: 0, 1 and 2.
        sampling: Name of the scheme's file.
        precision: Lightning's name of the precision.
        out: Folder of the runs; a finished run is not repeated.
    """
    means: dict[bool, list[float]] = {False: [], True: []}
    for seed in seeds or [0, 1, 2]:
        for grouped in (False, True):
            run = out / f"{sampling}-{'grouped' if grouped else 'plain'}-{seed}"
            if not (run / "metrics.json").exists():
                shutil.rmtree(run, ignore_errors=True)  # an interrupted run
                command = [sys.executable, "-m", "mtl", "fit", "-c", str(suite)]
                command += ["-c", str(SAMPLING / f"{sampling}.yaml"), "--out", str(run)]
                command += ["--backbone", backbone or bundled_encoder()]
                command += ["--seed_everything", str(seed), "--model.lr", "1e-4"]
                command += ["--data.max_examples", str(max_examples), "--model.pooling", "mean"]
                command += ["--data.group_by_length", str(grouped).lower()]
                command += ["--trainer.max_epochs", str(epochs), "--trainer.precision", precision]
                command += ["--data.root", str(root)] if root else []
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            result = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
            means[grouped].append(result["last"]["mean"])
            kind = "grouped" if grouped else "plain  "
            score, seconds = result["last"]["mean"], result["seconds"]
            print(f"seed {seed} {kind} mean score {score:.4f} in {seconds:.0f} s", flush=True)
    for grouped, values in means.items():
        kind = "grouped" if grouped else "plain"
        print(f"{kind:8} {statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}")


def pass_cost(backbone: str | None = None, rounds: int = 30, bf16: bool = False) -> None:
    """Prints the fixed cost of a pass through the encoder, in tokens that take the same time.

    Args:
        backbone: Pretrained encoder. Default: that of the quickstart.
        rounds: Measurements of each size.
        bf16: Whether matrix products are computed in bf16.
    """
    encoder = Encoder(backbone or bundled_encoder())
    times = {}
    for examples in (1, 2, 4, 8):
        tokens = {
            name: torch.ones(examples, 32, dtype=torch.long)
            for name in ("input_ids", "attention_mask")
        }
        taken = []
        for _ in range(rounds):
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                states = encoder.backbone(**tokens).last_hidden_state
            states.sum().backward()
            taken.append(time.perf_counter() - start)
        times[examples * 32] = statistics.median(taken)
        print(f"{examples * 32:4} tokens {times[examples * 32] * 1e3:7.1f} ms")
    slope = (times[256] - times[64]) / 192
    print(f"a pass costs the time of {(times[64] - 64 * slope) / slope:.0f} tokens")


def evenly_spaced(steps: StepDataset, count: int) -> list[Batch]:
    """Up to `count` batches of an epoch, evenly spaced."""
    total = len(steps)
    count = min(count, total)
    return [steps[index * total // count] for index in range(count)]


def one_rectangle(batch: Batch) -> Batch:
    """The batch with all segments as long as the longest, so that they share one encoder pass."""
    longest = max(segment.length for segment in batch.segments)
    return batch._replace(
        segments=tuple(segment._replace(length=longest) for segment in batch.segments)
    )


def training_speed(
    module: MultiHead, optimizer: torch.optim.Optimizer, batches: list[Batch], bf16: bool
) -> float:
    """Examples per second."""
    start = time.perf_counter()
    for batch in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = module.combined(batch, module.task_losses(batch))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return sum(len(batch.task_ids) for batch in batches) / (time.perf_counter() - start)


if __name__ == "__main__":
    auto_cli([share, speed, scores, pass_cost], as_positional=False)
