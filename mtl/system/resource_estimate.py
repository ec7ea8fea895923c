"""What a configured training will need of memory and disk: estimates, made before anything is trained."""

from typing import Any, NamedTuple

from mtl.balancing import Surgery
from mtl.data import MultiTaskDataModule
from mtl.methods import MultiTaskModule

FP32 = 4
# Moments that Adam and its kin keep of each trained parameter.
MOMENTS = 2
# Bytes that a layer keeps of a token for the backward pass, in 16 bits, for each of its width; attention's own matrix is
# not kept by fused attention. Source: Korthikanti et al. 2022, equation 1.
KEPT = 34
# Bytes of an encoded row in the cache for each of its tokens: an id and a segment.
ENCODED = 5


class ResourceEstimate(NamedTuple):
    """Bytes, by what takes them.

    Attributes:
        memory: Of the GPU, or of the process.
        checkpoints: Of the run's folder.
        cache: Of the encoded rows, at most.
    """

    memory: dict[str, int]
    checkpoints: int
    cache: int


def estimate_resources(
    model: MultiTaskModule, data: MultiTaskDataModule, rows: int, half: bool
) -> ResourceEstimate:
    """An estimate for one process.

    Args:
        model: The method.
        data: The scheme.
        rows: Rows of all splits that the training opens, as far as they are known.
        half: Whether activations are of 16 bits.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    tasks = len(model.tasks)
    memory = {
        "weights": FP32 * total,
        "gradients": FP32 * trained,
        "optimiser (two moments)": FP32 * MOMENTS * trained,
        "activations, at most": _activations(model, data, half),
    }
    if isinstance(model.balancer, Surgery) and model.balancer.mode != "two_pass":
        memory[f"gradients of {tasks} tasks, at most"] = FP32 * tasks * trained
    last, best = (
        FP32 * (1 + MOMENTS) * trained,
        FP32 * trained,
    )  # what is frozen is left out of them
    return ResourceEstimate(memory, last + best, rows * data.max_length * ENCODED)


def _activations(model: MultiTaskModule, data: MultiTaskDataModule, half: bool) -> int:
    """Of a step's rows, all of them as long as they may be."""
    config: Any = next(
        part.config
        for part in model.modules()
        if hasattr(part, "config") and hasattr(part.config, "hidden_size")
    )
    rows = data.batch_size * (len(model.tasks) if data.tasks_per_batch == "all" else 1)
    tokens = rows * min(
        data.max_length, getattr(config, "max_position_embeddings", data.max_length)
    )
    return int(tokens * config.hidden_size * config.num_hidden_layers * KEPT * (1 if half else 2))
