"""What it spares to ask a masked language model at the mask and for the label words alone: time and memory of a step."""

import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM

from experiments.bench.gradients import forget_peak, peak
from experiments.bench.padding import spread
from experiments.bench.schemes import scheme, steps_of, suite_tasks
from mtl.batch import Batch, length_groups
from mtl.data.encoding import Prompted
from mtl.methods import PromptBasedFineTuning


def main(
    backbone: str,
    suite: Path = Path("configs/suites/single_vs_multi.yaml"),
    root: Path | None = None,
    batch_size: int = 10,
    batches: int = 3,
    rounds: int = 5,
) -> None:
    """Prints seconds and peak memory of a training step, and how far the two ways' logits lie apart.

    Args:
        backbone: A masked language model.
        suite: File that lists the tasks.
        root: Folder of the tasks' rows, in place of their own sources.
        batch_size: Rows of each task in a batch.
        batches: Steps of a round, spread over an epoch.
        rounds: How often the two take turns; medians are printed.
    """
    tasks = suite_tasks(suite)
    data = scheme(
        "mixed",
        tasks=tasks,
        backbone=backbone,
        root=root,
        batch_size=batch_size,
        encoding=Prompted(),
    )
    made = spread(steps_of(data), batches)
    ours = PromptBasedFineTuning(tasks=tasks, backbone=backbone)
    whole = AutoModelForMaskedLM.from_pretrained(backbone).train()
    words = dict(ours.words.named_buffers())

    def everything(batch: Batch) -> dict[str, Tensor]:
        logits = []
        for rows, length in length_groups(batch):
            tokens = {
                name: value[rows, :length] for name, value in batch.tokens.items() if value.ndim > 1
            }
            scores = whole(**tokens).logits
            logits.append(
                scores[torch.arange(len(scores)), batch.tokens["mask_position"][rows].long()]
            )
        joined = torch.cat(logits)
        return {
            segment.task: joined[segment.examples][:, words[segment.task]]
            for segment in batch.segments
        }

    def of(
        model: nn.Module, logits: Callable[[Batch], dict[str, Tensor]]
    ) -> Callable[[Batch], None]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

        def step(batch: Batch) -> None:
            found: Any = logits(batch)
            losses = [
                ours.example_losses(segment, found[segment.task]).mean()
                for segment in batch.segments
            ]
            torch.stack(losses).mean().backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    with torch.no_grad():
        ours.eval(), whole.eval()
        pairs = [(ours(batch), everything(batch)) for batch in made]
        apart = max(
            float((one[task] - two[task]).abs().max()) for one, two in pairs for task in one
        )
        ours.train(), whole.train()
    print(f"largest difference of logits: {apart:.1e}")
    contenders = {
        "label words at the mask": of(ours, ours),
        "whole vocabulary everywhere": of(whole, everything),
    }
    for name, step in contenders.items():
        step(made[0])
        gc.collect()
        forget_peak()
        step(made[0])
        print(f"{name:28} peak {peak():7.0f} MB")
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, step in contenders.items():
            start = time.perf_counter()
            for batch in made:
                step(batch)
            times[name].append((time.perf_counter() - start) / len(made))
    first = statistics.median(times["label words at the mask"])
    for name, seconds in times.items():
        print(
            f"{name:28} {statistics.median(seconds):7.3f} s  {statistics.median(seconds) / first:5.2f}"
        )


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
