"""What a step of CA-MTL costs against the plain multi-head on the same batches, and what padding to 128 would."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from transformers import AutoModel, AutoTokenizer, BertConfig

from experiments.bench.padding import spread
from experiments.bench.schemes import scheme, steps_of, suite_tasks
from experiments.quickstart import bundled_encoder
from mtl.batch import Batch
from mtl.methods import CAMTL, MultiHead, MultiTaskModule


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
    """Prints seconds of a training step, forward, backward and update, and ratios to the plain multi-head.

    Args:
        suite: File that lists the tasks.
        root: Folder of the tasks' rows, in place of their own sources.
        bert_base: Whether the backbone is a random BERT-base, in place of the one of the quickstart.
        sampling: Name of the scheme's file.
        batch_size: Rows in a batch.
        batches: Steps of a round, spread over an epoch.
        rounds: How often the models take turns.
        bf16: Whether products are in bf16.
        ablation: Whether CA-MTL with one part switched off takes turns as well.
    """
    tasks = suite_tasks(suite)
    with tempfile.TemporaryDirectory() as folder:
        backbone = random_base(folder) if bert_base else bundled_encoder()
        data = scheme(sampling, tasks=tasks, backbone=backbone, root=root, batch_size=batch_size)
        made = spread(steps_of(data), batches)
        given: dict[str, Any] = {"tasks": tasks, "backbone": backbone}
        parts = ("attention_bias", "alignment", "layer_norm", "bottleneck")
        models: dict[str, MultiTaskModule] = {
            "multi-head": MultiHead("pooler", **given),
            "CA-MTL base": CAMTL(**given),
            "CA-MTL large": CAMTL("large", **given),
            "layers 0-4 frozen": CAMTL(freeze_layers="0-4", **given),
        }
        if ablation:
            models |= {f"without {part}": CAMTL(**given | {part: False}) for part in parts}
        models["padded to 128"] = models["CA-MTL base"]
        times: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(rounds):
            for name, model in models.items():
                times[name].append(
                    seconds(
                        model, [padded(b) for b in made] if name == "padded to 128" else made, bf16
                    )
                )
    rows = sum(len(batch.task_ids) for batch in made)
    print(f"{'':24}{'step':>9}{'ratio':>7}{'rows a second':>15}{'trainable':>14}{'of all':>8}")
    for name, model in models.items():
        ratio = statistics.median(
            own / plain for own, plain in zip(times[name], times["multi-head"], strict=True)
        )
        middle = statistics.median(times[name])
        trained = sum(
            parameter.numel() for parameter in model.parameters() if parameter.requires_grad
        )
        share = trained / sum(parameter.numel() for parameter in model.parameters())
        print(
            f"{name:24}{middle / len(made):7.3f} s{ratio:7.2f}{rows / middle:15.1f}{trained:14,}{share:8.1%}"
        )


def random_base(folder: str) -> str:
    """A random BERT-base with the quickstart's vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(bundled_encoder())
    tokenizer.save_pretrained(folder)
    AutoModel.from_config(BertConfig(vocab_size=len(tokenizer))).save_pretrained(folder)
    return folder


def padded(batch: Batch) -> Batch:
    """The batch with every row padded to 128, as the authors' code has it."""
    missing = 128 - batch.tokens["input_ids"].shape[1]
    tokens = {
        name: torch.nn.functional.pad(value, (0, missing)) for name, value in batch.tokens.items()
    }
    return batch._replace(
        tokens=tokens, segments=tuple(segment._replace(length=128) for segment in batch.segments)
    )


def seconds(model: MultiTaskModule, batches: list[Batch], bf16: bool) -> float:
    """Seconds of training steps on the batches."""
    # Small steps: the same model is timed again and again.
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-7, fused=True
    )
    begun = time.perf_counter()
    for batch in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model.combined(batch, model.task_losses(batch))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - begun


if __name__ == "__main__":
    auto_cli(cost, as_positional=False)
