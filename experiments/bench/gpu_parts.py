"""The measurements of `experiments.bench.gpu`: each function measures one case."""

import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities import move_data_to_device
from torch import Tensor
from transformers import BertConfig

from mtl.balancing import Balancer, Sum
from mtl.batch import Batch, EncodedExamples, collate
from mtl.methods import (
    CAMTL,
    Adapters,
    DomainAdversarial,
    Joint,
    LoRA,
    MetaFineTuning,
    MTLLoRA,
    MultiHead,
    MultiTaskModule,
    PALs,
    PromptBasedFineTuning,
    Separate,
    TaskLayers,
)
from mtl.modules.backbone import without_weights
from mtl.modules.task_context import task_context
from mtl.tasks import Task

METHODS: dict[str, tuple[type[MultiTaskModule], dict[str, Any]]] = {
    "multi_head": (MultiHead, {}),
    "separate": (Separate, {}),
    "joint": (Joint, {}),
    "domain_adversarial": (DomainAdversarial, {}),
    "mft": (MetaFineTuning, {"scores": "none", "layers": [0, 1], "pooling": "mean"}),
    "lora_per_task": (LoRA, {"per_task": True}),
    "mtl_lora": (MTLLoRA, {}),
    "adapters_per_task": (Adapters, {"per_task": True}),
    "pals": (PALs, {}),
    "pals_shared_and_task": (PALs, {"variant": "shared_and_task"}),
    "task_layers": (TaskLayers, {}),
    "ca_mtl": (CAMTL, {}),
    "prompt": (PromptBasedFineTuning, {}),
}
SHAPES = {
    "toy": BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    ),
    "base": BertConfig(),
    "large": BertConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
    ),
}


class Timing(NamedTuple):
    """Seconds of a step.

    Attributes:
        total: Until its result is there.
        host: Until the call returns: the time that Python and kernel launches take.
    """

    total: float
    host: float


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_tasks(count: int) -> list[Task]:
    """Tasks with two classes and a prompt."""
    prompt = {"template": "{text} it was {mask}.", "words": {"no": "bad", "yes": "good"}}
    fields: dict[str, Any] = {"texts": ["text"], "classes": ["no", "yes"], "prompt": prompt}
    fields |= {"source": {"path": "."}}
    return [Task.read({"name": f"t{index}", **fields}) for index in range(count)]


def random_batch(
    tasks: list[Task], sizes: Mapping[int, int], lengths: tuple[int, int], words: int
) -> Batch:
    """Random examples.

    Args:
        tasks: All tasks.
        sizes: Number of examples by the task's index.
        lengths: Shortest and longest example in tokens.
        words: Size of the vocabulary.
    """
    rng = np.random.default_rng(0)
    parts = []
    for task, size in sizes.items():
        counts = [lengths[1], *rng.integers(lengths[0], lengths[1] + 1, size - 1)]
        ids = [rng.integers(5, words, count) for count in counts]
        masks = rng.integers(0, lengths[0], size)
        tokens: dict[str, Any] = {"input_ids": ids, "mask_position": masks}
        labels = rng.integers(0, 2, size)
        parts.append(EncodedExamples(task, tokens, labels, np.arange(size), float(size)))
    return collate(parts, [task.name for task in tasks], {})


def compare_answers(
    name: str, scheme: Literal["round_robin", "mixed"], backbone: str, length: int
) -> dict[str, float]:
    """Largest difference of a method's logits on the device from those in fp32 on the CPU.

    Args:
        name: Key of `METHODS`.
        scheme: Whether the batch has one task, or all.
        backbone: An encoder with a masked-language-model head.
        length: Longest example in tokens.
    """
    torch.manual_seed(0)
    tasks, (cls, args) = make_tasks(3), METHODS[name]
    method = cls(tasks=tasks, backbone=backbone, **args).eval()
    with torch.no_grad():
        for parameter in method.parameters():  # new modules that start with zeros count as well
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    sizes = dict.fromkeys(range(3 if scheme == "mixed" else 1), 8)
    encoder: Any = next(module for module in method.modules() if hasattr(module, "config"))
    batch = random_batch(tasks, sizes, (length // 2, length), encoder.config.vocab_size)
    with torch.no_grad():
        expected = method(batch)
        method, moved = method.to(device()), move_data_to_device(batch, device())
        fp32 = method(moved)
        with torch.autocast(device().type, torch.bfloat16):
            bf16 = method(moved)
            losses = method.train().task_losses(moved)
    return {
        "largest_logit": max(float(each.abs().max()) for each in expected.values()),
        "difference_fp32": _largest_difference(expected, fp32),
        "difference_bf16": _largest_difference(expected, bf16),
        "finite_losses": float(all(loss.isfinite() for loss in losses.values())),
    }


def _largest_difference(expected: Mapping[str, Tensor], logits: Mapping[str, Tensor]) -> float:
    differences = (logits[task].float().cpu() - each for task, each in expected.items())
    return max(float(each.abs().max()) for each in differences)


class TrainingStep:
    """A training step of `MultiHead` in bf16: forward pass, backward pass and update.

    Args:
        shape: Key of `SHAPES`.
        sizes: Number of examples of each task.
        lengths: Shortest and longest example in tokens.
        balancer: The balancer.
        compiled: Whether the encoder is compiled.
    """

    def __init__(
        self,
        shape: str,
        sizes: list[int],
        lengths: tuple[int, int],
        balancer: Balancer | None = None,
        compiled: bool = False,
    ) -> None:
        tasks, self.balancer = make_tasks(len(sizes)), balancer or Sum()
        with without_weights(), tempfile.TemporaryDirectory() as folder:
            SHAPES[shape].save_pretrained(folder)
            method = MultiHead("cls", tasks=tasks, backbone=folder, balancer=self.balancer)
        self.method: Any = method.to(device()).train()
        self.config = self.method.encoder.backbone.config
        if compiled:
            self.method.encoder.backbone.compile()
        self.balancer.on_fit_start(self.method, {})
        batch = random_batch(tasks, dict(enumerate(sizes)), lengths, self.config.vocab_size)
        self.tokens = int(batch.tokens["attention_mask"].sum())
        self.batch: Batch = move_data_to_device(batch, device())
        self.optimizer = torch.optim.AdamW(self.method.parameters(), lr=1e-5, fused=True)

    def __call__(self) -> None:
        """Computes the step."""
        batch = self.batch
        self.balancer.on_step_start(batch, seed=0)
        with (
            task_context(batch.segments, slice(0, len(batch.task_ids))),
            torch.autocast(device().type, torch.bfloat16),
        ):
            losses = self.method.task_losses(batch)
        self.balancer.backward(self.method.combined(batch, losses))
        self.optimizer.step()
        self.optimizer.zero_grad()

    def flops(self) -> float:
        """Floating-point operations of the forward and the backward pass, without padding.

        Source: Kaplan et al. 2020, section 2.1.
        """
        config = self.config
        embeddings = (config.vocab_size + config.max_position_embeddings) * config.hidden_size
        weights = sum(each.numel() for each in self.method.parameters()) - embeddings
        length = self.tokens / len(self.batch.task_ids)
        attention = 12 * config.num_hidden_layers * config.hidden_size * length
        return float((6 * weights + attention) * self.tokens)


def timed(step: Callable[[], object], repeats: int) -> Timing:
    """Medians over repetitions, after two that are not timed."""
    totals, hosts = [], []
    for turn in range(repeats + 2):
        _synchronize()
        start = time.perf_counter()
        step()
        host = time.perf_counter() - start
        _synchronize()
        if turn > 1:
            totals.append(time.perf_counter() - start)
            hosts.append(host)
    return Timing(float(np.median(totals)), float(np.median(hosts)))


def _synchronize() -> None:
    if device().type == "cuda":
        torch.cuda.synchronize()
