"""Cost of a CA-MTL training step against the plain multi-head model on the same batches.

And of padding to 128 tokens.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from transformers import AutoModel, AutoTokenizer, BertConfig

from experiments.bench.padding import evenly_spaced
from experiments.bench.schemes import scheme, steps_of, suite_tasks
from mtl.batch import Batch
from mtl.methods import CAMTL, MultiHead, MultiTaskModule
from mtl.system.bundled_encoder import bundled_encoder

PADDED = "padded to 128"
PARTS = ("attention_bias", "alignment", "layer_norm", "bottleneck")


def cost(
    suite: Path = Path("configs/suites/glue.yaml"),
    root: Path | None = None,
    bert_base: bool = False,
    sampling: str = "sequential",
    batch_size: int = 32,
    batches: int = 3,
    rounds: int = 5,
    bf16: bool = False,
    ablation: bool = False,
) -> None:
    """Prints seconds per training step (forward, backward, update).

    And the ratio to the plain multi-head model.

    Args:
        suite: File that lists the tasks.
        root: Folder of the tasks' data. Default: the tasks' own sources.
        bert_base: Use a randomly initialized BERT-base instead of the quickstart's encoder.
        sampling: Name of the sampling scheme.
        batch_size: Examples per batch.
        batches: Steps per round, spread over an epoch.
        rounds: Number of rounds; the models take turns.
        bf16: Use bf16 autocast.
        ablation: Also measure CA-MTL with one part switched off.
    """
    tasks = suite_tasks(suite)
    with tempfile.TemporaryDirectory() as folder:
        backbone = random_base(folder) if bert_base else bundled_encoder()
        data = scheme(sampling, tasks=tasks, backbone=backbone, root=root, batch_size=batch_size)
        steps = evenly_spaced(steps_of(data), batches)
        shared: dict[str, Any] = {"tasks": tasks, "backbone": backbone}
        models: dict[str, MultiTaskModule] = {
            "multi-head": MultiHead("pooler", **shared),
            "CA-MTL base": CAMTL(**shared),
            "CA-MTL large": CAMTL("large", **shared),
            "layers 0-4 frozen": CAMTL(freeze_layers="0-4", **shared),
        }
        if ablation:
            models |= {f"without {part}": CAMTL(**shared | {part: False}) for part in PARTS}
        models[PADDED] = models["CA-MTL base"]
        times: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(rounds):
            for name, model in models.items():
                inputs = [padded(batch) for batch in steps] if name == PADDED else steps
                times[name].append(train_seconds(model, inputs, bf16))
    examples = sum(len(batch.task_ids) for batch in steps)
    print_costs(models, times, len(steps), examples)


def print_costs(
    models: dict[str, MultiTaskModule], times: dict[str, list[float]], steps: int, examples: int
) -> None:
    """Prints one line per model.

    Args:
        models: The models.
        times: Seconds of each round, by model.
        steps: Steps per round.
        examples: Examples per round.
    """
    print(f"{'':24}{'step':>9}{'ratio':>7}{'examples/s':>15}{'trainable':>14}{'of all':>8}")
    for name, model in models.items():
        pairs = zip(times[name], times["multi-head"], strict=True)
        ratio = statistics.median(seconds / plain for seconds, plain in pairs)
        median = statistics.median(times[name])
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        share = trained / sum(p.numel() for p in model.parameters())
        print(
            f"{name:24}{median / steps:7.3f} "
            f"s{ratio:7.2f}{examples / median:15.1f}{trained:14,}{share:8.1%}"
        )


def random_base(folder: str) -> str:
    """Saves a randomly initialized BERT-base with the vocabulary of the quickstart's encoder.

    Returns the folder.
    """
    tokenizer = AutoTokenizer.from_pretrained(bundled_encoder())
    tokenizer.save_pretrained(folder)
    AutoModel.from_config(BertConfig(vocab_size=len(tokenizer))).save_pretrained(folder)
    return folder


def padded(batch: Batch) -> Batch:
    """The batch with every example padded to 128 tokens, as in the released code of CA-MTL."""
    missing = 128 - batch.tokens["input_ids"].shape[1]
    tokens = {
        name: torch.nn.functional.pad(value, (0, missing)) for name, value in batch.tokens.items()
    }
    segments = tuple(segment._replace(length=128) for segment in batch.segments)
    return batch._replace(tokens=tokens, segments=segments)


def train_seconds(model: MultiTaskModule, batches: list[Batch], bf16: bool) -> float:
    """Seconds of one training step on each batch."""
    # A tiny learning rate: the same model is timed in every round.
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-7, fused=True)
    start = time.perf_counter()
    for batch in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model.combined(batch, model.task_losses(batch))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - start


if __name__ == "__main__":
    auto_cli(cost, as_positional=False)
