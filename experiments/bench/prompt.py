"""Time and memory of a prompt-based training step.

Logits of the label words at the mask against the full vocabulary.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM

from experiments.bench.gradients import forget_peak, peak
from experiments.bench.padding import evenly_spaced
from experiments.bench.schemes import scheme, steps_of, suite_tasks
from mtl.batch import Batch, length_groups
from mtl.data.encoding import Prompted
from mtl.methods import PromptBasedFineTuning

TaskLogits = Callable[[Batch], Mapping[str, Tensor]]


def main(
    backbone: str,
    suite: Path = Path("configs/suites/single_vs_multi.yaml"),
    root: Path | None = None,
    batch_size: int = 10,
    batches: int = 3,
    rounds: int = 5,
) -> None:
    """Prints seconds and peak memory of a training step.

    And the largest difference between the logits of both ways.

    Args:
        backbone: A masked language model.
        suite: File that lists the tasks.
        root: Folder of the tasks' data. Default: the tasks' own sources.
        batch_size: Examples of each task per batch.
        batches: Steps per round, spread over an epoch.
        rounds: Number of rounds; both ways take turns, and medians are printed.
    """
    tasks = suite_tasks(suite)
    common = {"tasks": tasks, "backbone": backbone}
    data = scheme("mixed", root=root, batch_size=batch_size, encoding=Prompted(), **common)
    steps = evenly_spaced(steps_of(data), batches)
    ours = PromptBasedFineTuning(tasks=tasks, backbone=backbone)
    full_model = AutoModelForMaskedLM.from_pretrained(backbone).train()
    words = dict(ours.words.named_buffers())

    def full_logits(batch: Batch) -> dict[str, Tensor]:
        """The logits of the label words.

        Taken from the logits of the whole vocabulary at every position.
        """
        logits = []
        for examples, length in length_groups(batch):
            tokens = {
                name: value[examples, :length]
                for name, value in batch.tokens.items()
                if value.ndim > 1
            }
            scores = full_model(**tokens).logits
            mask = batch.tokens["mask_position"][examples].long()
            logits.append(scores[torch.arange(len(scores)), mask])
        joined = torch.cat(logits)
        return {
            segment.task: joined[segment.examples][:, words[segment.task]]
            for segment in batch.segments
        }

    with torch.no_grad():
        ours.eval(), full_model.eval()
        pairs = [(ours(batch), full_logits(batch)) for batch in steps]
        difference = max(
            float((one[task] - other[task]).abs().max()) for one, other in pairs for task in one
        )
        ours.train(), full_model.train()
    print(f"largest difference of logits: {difference:.1e}")
    compare(
        {
            "label words at the mask": training_step(ours, ours, ours),
            "full vocabulary everywhere": training_step(ours, full_model, full_logits),
        },
        steps,
        rounds,
    )


def training_step(
    losses: PromptBasedFineTuning, model: nn.Module, task_logits: TaskLogits
) -> Callable[[Batch], None]:
    """A training step of a model.

    Args:
        losses: Computes the losses from logits.
        model: The model that is trained.
        task_logits: Computes the logits of each task with it.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step(batch: Batch) -> None:
        logits = task_logits(batch)
        means = [
            losses.example_losses(segment, logits[segment.task]).mean()
            for segment in batch.segments
        ]
        torch.stack(means).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def compare(steps: dict[str, Callable[[Batch], None]], batches: list[Batch], rounds: int) -> None:
    """Prints peak memory and median seconds of each training step; the ratio is to the first one.

    Args:
        steps: The training steps by name.
        batches: The batches of a round.
        rounds: Number of rounds.
    """
    for name, step in steps.items():
        step(batches[0])
        gc.collect()
        forget_peak()
        step(batches[0])
        print(f"{name:28} peak {peak():7.0f} MB")
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            for batch in batches:
                step(batch)
            times[name].append((time.perf_counter() - start) / len(batches))
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    first = next(iter(medians.values()))
    for name, seconds in medians.items():
        print(f"{name:28} {seconds:7.3f} s  {seconds / first:5.2f}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
