"""Estimates of the memory and the disk space of a configured training, before it starts."""

from typing import NamedTuple

from transformers import PreTrainedModel

from mtl.data import MultiTaskDataModule
from mtl.methods import MultiTaskModule

FP32 = 4
# Moments that Adam and its variants keep for each trained parameter.
MOMENTS = 2
# Bytes that a layer keeps for the backward pass, for each token and each unit of its width, in 16
# bits. The attention matrix is not counted, because fused attention does not keep it.
# Source: Korthikanti et al. 2022, equation 1.
BYTES_PER_UNIT = 34
# Bytes of an encoded example in the cache for each of its tokens: a token id and a segment id.
BYTES_PER_CACHED_TOKEN = 5


class ResourceEstimate(NamedTuple):
    """Numbers of bytes.

    Attributes:
        memory: Memory of the GPU, or of the process, by purpose.
        checkpoints: Disk space of the run's checkpoints.
        cache: Disk space of the encoded examples, at most.
    """

    memory: dict[str, int]
    checkpoints: int
    cache: int


def estimate_resources(
    model: MultiTaskModule, data: MultiTaskDataModule, examples: int, half: bool
) -> ResourceEstimate:
    """Estimates the resources of one process.

    Args:
        model: The method.
        data: The sampling scheme.
        examples: Number of examples in all splits that the training reads, as far as they are
            known.
        half: Whether activations have 16 bits.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    tasks = len(model.tasks)
    memory = {
        "weights": FP32 * total,
        "gradients": FP32 * trained,
        "optimizer (two moments)": FP32 * MOMENTS * trained,
        "activations, at most": _activations(model, data, half),
    }
    if model.balancer.stores_task_gradients:
        memory[f"gradients of {tasks} tasks, at most"] = FP32 * tasks * trained
    # Frozen parameters are not saved; the best checkpoint has no optimizer state.
    last, best = FP32 * (1 + MOMENTS) * trained, FP32 * trained
    cache = examples * _longest(data) * BYTES_PER_CACHED_TOKEN
    return ResourceEstimate(memory, last + best, cache)


def _activations(model: MultiTaskModule, data: MultiTaskDataModule, half: bool) -> int:
    """Bytes of a step's activations if all of its examples have the maximal length."""
    config = next(
        module.config for module in model.modules() if isinstance(module, PreTrainedModel)
    )
    examples = data.batch_size * (len(model.tasks) if data.tasks_per_batch == "all" else 1)
    longest = getattr(config, "max_position_embeddings", _longest(data))
    units = examples * min(_longest(data), longest) * config.hidden_size * config.num_hidden_layers
    return int(units * BYTES_PER_UNIT * (1 if half else 2))


def _longest(data: MultiTaskDataModule) -> int:
    """The highest maximum length of the tasks, in tokens."""
    return max(data.encoding.length_limit(task, data.max_length) for task in data.tasks)
