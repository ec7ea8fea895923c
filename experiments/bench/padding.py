"""What length grouping spares, scheme by scheme: share of padding, examples a second, and that scores do not suffer.

`plain` shuffles rows without regard to length and pads a batch to its longest row: what most libraries do.
`grouped` lets rows of similar length meet, and tasks of other lengths pass through the encoder apart.
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
from torch.utils.data import Dataset

from experiments.bench.schemes import PLAIN, SAMPLING, scheme, steps_of, suite_tasks
from experiments.quickstart import bundled_encoder
from mtl.batch import Batch, length_groups
from mtl.methods import MultiHead
from mtl.modules import Encoder


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
        root: Folder of the tasks' rows, in place of their own sources.
        backbone: Pretrained encoder; the one of the quickstart where absent.
        batch_size: Rows in a batch.
        batches: Batches looked at, spread over an epoch.
    """
    tasks, backbone = suite_tasks(suite), backbone or bundled_encoder()
    print(f"{'scheme':14}{'plain':>8}{'grouped':>9}{'passes':>8}")
    for name in PLAIN:
        found = []
        for grouped in (False, True):
            data = scheme(
                name,
                tasks=tasks,
                backbone=backbone,
                root=root,
                batch_size=batch_size,
                group_by_length=grouped,
            )
            made = spread(steps_of(data), batches)
            tokens = sum(int(batch.tokens["attention_mask"].sum()) for batch in made)
            whole = sum(batch.tokens["attention_mask"].numel() for batch in made)
            parts = [length_groups(batch) for batch in made]
            computed = sum(
                (rows.stop - rows.start) * length for part in parts for rows, length in part
            )
            found.append(1 - tokens / (computed if grouped else whole))
        passes = sum(map(len, parts)) / len(parts)
        print(f"{name:14}{found[0]:8.1%}{found[1]:9.1%}{passes:8.1f}", flush=True)


def speed(
    suite: Path = Path("configs/suites/glue.yaml"),
    root: Path | None = None,
    backbone: str | None = None,
    batch_size: int = 32,
    examples: int = 288,
    rounds: int = 3,
    bf16: bool = False,
) -> None:
    """Prints examples a second of training, plain and grouped in turn, and the ratio.

    Args:
        suite: File that lists the tasks.
        root: Folder of the tasks' rows, in place of their own sources.
        backbone: Pretrained encoder; the one of the quickstart where absent.
        batch_size: Rows in a batch.
        examples: Rows of a round, in batches spread over an epoch; at least one batch.
        rounds: How often the two take turns.
        bf16: Whether products are in bf16.
    """
    tasks, backbone = suite_tasks(suite), backbone or bundled_encoder()
    module = MultiHead(tasks=tasks, backbone=backbone)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)
    print(
        f"{'scheme':14}{'plain':>8}{'grouped':>9}{'ratio':>7}   (examples a second, median of {rounds})"
    )
    for name in PLAIN:
        made = []
        for grouped in (False, True):
            data = scheme(
                name,
                tasks=tasks,
                backbone=backbone,
                root=root,
                batch_size=batch_size,
                group_by_length=grouped,
            )
            rows = batch_size * (len(tasks) if data.tasks_per_batch == "all" else 1)
            made.append(spread(steps_of(data), max(1, examples // rows)))
        plain = [one_rectangle(batch) for batch in made[0]]
        speeds = [
            (trained(module, optimizer, plain, bf16), trained(module, optimizer, made[1], bf16))
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
    """Trains with and without grouping by `mtl fit` and prints the mean validation scores.

    Args:
        suite: File that lists the tasks.
        root: Folder of the tasks' rows, in place of their own sources.
        backbone: Pretrained encoder; the one of the quickstart where absent.
        max_examples: Training rows of a task at most.
        epochs: Passes over the rows.
        seeds: Seeds; 0, 1 and 2 where absent.
        sampling: Name of the scheme's file.
        precision: Lightning's name of the precision.
        out: Folder of the runs; one that has its metrics is not run again.
    """
    found: dict[bool, list[float]] = {False: [], True: []}
    for seed in seeds or [0, 1, 2]:
        for grouped in (False, True):
            run = out / f"{sampling}-{'grouped' if grouped else 'plain'}-{seed}"
            if not (run / "metrics.json").exists():
                shutil.rmtree(run, ignore_errors=True)  # of a run that was cut off
                words = [
                    sys.executable,
                    "-m",
                    "mtl",
                    "fit",
                    "-c",
                    str(suite),
                    "-c",
                    str(SAMPLING / f"{sampling}.yaml"),
                ]
                words += [
                    "--backbone",
                    backbone or bundled_encoder(),
                    "--out",
                    str(run),
                    "--seed_everything",
                    str(seed),
                ]
                words += [
                    "--data.max_examples",
                    str(max_examples),
                    "--data.group_by_length",
                    str(grouped).lower(),
                ]
                words += [
                    "--model.lr",
                    "1e-4",
                    "--model.pooling",
                    "mean",
                    "--trainer.max_epochs",
                    str(epochs),
                ]
                words += [
                    "--trainer.precision",
                    precision,
                    *(["--data.root", str(root)] if root else []),
                ]
                subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            result = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
            found[grouped].append(result["last"]["mean"])
            kind = "grouped" if grouped else "plain  "
            print(
                f"seed {seed} {kind} mean score {result['last']['mean']:.4f} in {result['seconds']:.0f} s",
                flush=True,
            )
    for grouped, values in found.items():
        print(
            f"{'grouped' if grouped else 'plain':8} {statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"
        )


def pass_cost(backbone: str | None = None, rounds: int = 30, bf16: bool = False) -> None:
    """Prints for how many tokens one more pass through the encoder must pay: the fixed time over the time of a token.

    Args:
        backbone: Pretrained encoder; the one of the quickstart where absent.
        rounds: Measurements of each size.
        bf16: Whether products are in bf16.
    """
    encoder = Encoder(backbone or bundled_encoder())
    times = {}
    for rows in (1, 2, 4, 8):
        tokens = {
            name: torch.ones(rows, 32, dtype=torch.long) for name in ("input_ids", "attention_mask")
        }
        taken = []
        for _ in range(rounds):
            begun = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                states = encoder.backbone(**tokens).last_hidden_state
            states.sum().backward()
            taken.append(time.perf_counter() - begun)
        times[rows * 32] = statistics.median(taken)
        print(f"{rows * 32:4} tokens {times[rows * 32] * 1e3:7.1f} ms")
    slope = (times[256] - times[64]) / 192
    print(f"a pass costs as much as {(times[64] - 64 * slope) / slope:.0f} tokens")


def spread(steps: Dataset[Batch], wanted: int) -> list[Batch]:
    """So many batches of an epoch, evenly spread."""
    total = steps.order.steps  # type: ignore[attr-defined]
    return (
        [steps[place * total // wanted] for place in range(wanted)]
        if wanted < total
        else [steps[n] for n in range(total)]
    )


def one_rectangle(batch: Batch) -> Batch:
    """The batch as if its segments were all as long as the longest, so that they pass through the encoder together."""
    longest = max(segment.length for segment in batch.segments)
    return batch._replace(
        segments=tuple(segment._replace(length=longest) for segment in batch.segments)
    )


def trained(
    module: MultiHead, optimizer: torch.optim.Optimizer, batches: list[Batch], bf16: bool
) -> float:
    """Examples a second."""
    begun = time.perf_counter()
    for batch in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = module.combined(batch, module.task_losses(batch))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return sum(len(batch.task_ids) for batch in batches) / (time.perf_counter() - begun)


if __name__ == "__main__":
    auto_cli([share, speed, scores, pass_cost], as_positional=False)
