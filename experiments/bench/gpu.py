"""What only a GPU can tell, in one script: answers in bf16, speed, surgery, the cost of a pass.

Every case is one line of the results file. A case that is in the file is not measured again, so
the script can be interrupted and continued:

    python -m experiments.bench.gpu --minutes 9

Without a GPU it measures the CPU; `--size toy` takes seconds.
"""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jsonargparse import auto_cli
from torchjd.aggregation import PCGrad
from transformers import AutoModelForMaskedLM, AutoTokenizer

from experiments.bench.gpu_parts import (
    METHODS,
    SHAPES,
    Timing,
    TrainingStep,
    compare_answers,
    device,
    timed,
)
from mtl.balancing import Surgery
from mtl.system.bundled_encoder import bundled_encoder


class Case(NamedTuple):
    """One measurement.

    Attributes:
        name: Its name in the results file.
        measure: Returns the values.
    """

    name: str
    measure: Callable[[], dict[str, float]]


class Scale(NamedTuple):
    """How large the measurements are.

    Attributes:
        shapes: Keys of `SHAPES`; the first is that of the answers.
        batch_sizes: Examples in a batch.
        length: Longest example in tokens.
        compiled: Batch sizes that are measured with a compiled encoder, too.
        matrix: Size of the matrices whose product gives the peak.
        passes: Numbers of examples from which the cost of a pass is computed.
        repeats: How often a step is timed.
    """

    shapes: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    length: int
    compiled: tuple[int, ...]
    matrix: int
    passes: tuple[int, ...]
    repeats: int


SCALES = {
    "toy": Scale(("toy",), (4,), 16, (), 64, (2, 4, 8), 2),
    "full": Scale(
        ("base", "large"), (32, 64, 128, 256), 128, (32, 256), 8192, (2, 4, 8, 16, 32, 64), 10
    ),
}


def gpu(
    out: Path = Path("runs/bench/gpu.jsonl"),
    size: Literal["toy", "full"] = "full",
    minutes: float = 9,
    backbone: str | None = None,
) -> list[dict[str, Any]]:
    """Measures the cases that are not in the results file, and prints them.

    Args:
        out: The results file.
        size: `full`: BERT-base and BERT-large; `toy`: a tiny model.
        minutes: No case starts after this time.
        backbone: An encoder with a masked-language-model head, for the answers. Default: random
            weights, with the tokenizer of the quickstart's encoder.

    Returns:
        The new results.
    """
    end = time.monotonic() + 60 * minutes
    done = (
        {json.loads(line)["case"] for line in out.read_text().splitlines()}
        if out.is_file()
        else set()
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    results = []
    for case in _cases(SCALES[size], backbone or _random_backbone(SCALES[size], out.parent)):
        if case.name in done or time.monotonic() > end:
            continue
        results.append({"case": case.name, "device": _device_name(), **_measured(case)})
        with out.open("a") as file:
            file.write(json.dumps(results[-1]) + "\n")
        print(json.dumps(results[-1]), flush=True)
    return results


def _measured(case: Case) -> dict[str, Any]:
    """The values of a case; a failure is a result, since others are still to be measured."""
    on_gpu = device().type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        values: dict[str, Any] = case.measure()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    return values | ({"memory_gb": torch.cuda.max_memory_allocated() / 1e9} if on_gpu else {})


def _cases(scale: Scale, backbone: str) -> Iterator[Case]:
    """All cases, the most important first."""
    for name in METHODS:
        for scheme in ("round_robin", "mixed"):
            measure = partial(compare_answers, name, scheme, backbone, scale.length)
            yield Case(f"answers {name} {scheme}", measure)
    yield Case("peak", partial(_peak, scale))
    shape, examples = scale.shapes[0], scale.batch_sizes[0]
    for tasks in (2, 4):
        yield Case(
            f"surgery {shape} {tasks} tasks", partial(_surgery, scale, [examples // 4] * tasks)
        )
    yield Case(f"pass {shape}", partial(_pass_cost, scale))
    for shape in scale.shapes:
        for examples in scale.batch_sizes:
            for lengths in ("even", "padded"):
                speed = partial(_speed, scale, shape, examples, lengths == "even")
                yield Case(f"speed {shape} {examples} {lengths}", speed)
                if examples in scale.compiled and lengths == "even":
                    yield Case(f"speed {shape} {examples} {lengths} compiled", partial(speed, True))


def _speed(
    scale: Scale, shape: str, examples: int, even: bool, compiled: bool = False
) -> dict[str, float]:
    """Speed of a training step, and its share of the speed of a large matrix product."""
    lengths = (scale.length if even else scale.length // 2, scale.length)
    step = TrainingStep(shape, [examples], lengths, compiled=compiled)
    seconds = timed(step, scale.repeats)
    flops = step.flops() / seconds.total
    return _seconds(seconds) | {
        "examples_per_second": examples / seconds.total,
        "tokens_per_second": step.tokens / seconds.total,
        "teraflops": flops / 1e12,
        "share_of_peak": flops / 1e12 / _peak(scale)["teraflops"],
    }


def _peak(scale: Scale) -> dict[str, float]:
    """Speed of the product of two large bf16 matrices."""
    matrix = torch.randn(scale.matrix, scale.matrix, device=device(), dtype=torch.bfloat16)
    seconds = timed(lambda: matrix @ matrix, scale.repeats)
    return _seconds(seconds) | {"teraflops": 2 * scale.matrix**3 / seconds.total / 1e12}


def _surgery(scale: Scale, sizes: list[int]) -> dict[str, float]:
    """Time of a step with PCGrad relative to that without, on a batch of all tasks."""
    shape, lengths = scale.shapes[0], (scale.length // 2, scale.length)
    plain = timed(TrainingStep(shape, sizes, lengths), scale.repeats)
    surgery = timed(TrainingStep(shape, sizes, lengths, Surgery(PCGrad)), scale.repeats)
    return _seconds(surgery) | {"ratio": surgery.total / plain.total}


def _pass_cost(scale: Scale) -> dict[str, float]:
    """The cost of one more encoder pass, in tokens: `ENCODER_PASS_COST` of `mtl.batch`.

    The time of a pass is fitted by a + b * tokens; the cost is a / b.
    """
    tokens, seconds = [], []
    for examples in scale.passes:
        step = TrainingStep(scale.shapes[0], [examples], (scale.length // 2,) * 2)
        encode = partial(_encode, step)
        tokens.append(step.tokens)
        seconds.append(timed(encode, scale.repeats).total)
    slope, intercept = np.polyfit(tokens, seconds, 1)
    return {"pass_cost_tokens": float(intercept / slope), "seconds_per_token": float(slope)}


def _encode(step: TrainingStep) -> None:
    with torch.autocast(device().type, torch.bfloat16):
        pooled = step.method.encoder(step.batch)
    pooled.float().sum().backward()
    step.method.zero_grad()


def _seconds(seconds: Timing) -> dict[str, float]:
    return {"seconds": seconds.total, "host_seconds": seconds.host}


def _device_name() -> str:
    return torch.cuda.get_device_name() if device().type == "cuda" else "cpu"


def _random_backbone(scale: Scale, folder: Path) -> str:
    """Saves a random encoder with a masked-language-model head."""
    torch.manual_seed(0)
    backbone = folder / f"random-{scale.shapes[0]}"
    AutoTokenizer.from_pretrained(bundled_encoder()).save_pretrained(backbone)
    AutoModelForMaskedLM.from_config(SHAPES[scale.shapes[0]]).save_pretrained(backbone)
    return str(backbone)


if __name__ == "__main__":
    auto_cli(gpu, as_positional=False)
