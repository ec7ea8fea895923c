"""Merge task vectors: task arithmetic, TIES and DARE.

Each function returns one merged vector; `add_vector` adds it to the pretrained weights.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl.merging.weights import Weights


def task_arithmetic(vectors: Sequence[Mapping[str, Tensor]]) -> Weights:
    """The sum of task vectors.

    Source: Ilharco et al. 2023, "Editing models with task arithmetic", section 2, addition.

    Args:
        vectors: The task vectors.
    """
    return {name: _stacked(vectors, name).sum(0).float() for name in vectors[0]}


def ties(vectors: Sequence[Mapping[str, Tensor]], density: float) -> Weights:
    """Trims the task vectors, elects a sign for each parameter, and averages what agrees with it.

    A parameter whose trimmed values cancel exactly has no elected sign and stays pretrained, as in
    the paper; its release gives it the most frequent sign of all parameters.

    Source: Yadav et al. 2023, "TIES-Merging", algorithm 1.

    Args:
        vectors: The task vectors.
        density: Share of each vector's values that is kept, in (0, 1]: the largest magnitudes of
            the whole vector; the paper's default is 0.2.
    """
    thresholds = [_smallest_kept(vector, density) for vector in vectors]
    merged = {}
    for name in vectors[0]:
        values = _stacked(vectors, name)  # (vectors, ...)
        limits = torch.tensor(thresholds, dtype=torch.double).view(-1, *[1] * (values.ndim - 1))
        trimmed = values.where(values.abs() >= limits, 0.0)
        elected = trimmed.sum(0).sign()
        agrees = (trimmed.sign() == elected) & (trimmed != 0)
        mean = trimmed.where(agrees, 0.0).sum(0) / agrees.sum(0).clamp(min=1)
        merged[name] = mean.float()
    return merged


def dare(vectors: Sequence[Mapping[str, Tensor]], density: float, seed: int) -> Weights:
    """Drops values of the task vectors at random, rescales the others, and adds the vectors.

    Source: Yu et al. 2024, "Language models are super Mario", section 3.2, with task arithmetic.

    Args:
        vectors: The task vectors.
        density: Probability 1 - p with which a value is kept, in (0, 1]; kept values are divided by
            it.
        seed: Decides which values are dropped, given the names and shapes of the vectors.
    """
    generator = torch.Generator().manual_seed(seed)
    merged = {}
    for name in sorted(vectors[0]):
        values = _stacked(vectors, name)
        kept = torch.rand(values.shape, generator=generator) < density
        merged[name] = (values.where(kept, 0.0) / density).sum(0).float()
    return merged


def _stacked(vectors: Sequence[Mapping[str, Tensor]], name: str) -> Tensor:
    """The values of one tensor in all vectors, shape (vectors, ...), in fp64."""
    return torch.stack([vector[name].double() for vector in vectors])


def _smallest_kept(vector: Mapping[str, Tensor], density: float) -> float:
    """The magnitude of the smallest value that trimming keeps."""
    magnitudes = torch.cat([value.flatten().abs() for value in vector.values()])
    kept = max(1, round(density * len(magnitudes)))
    return magnitudes.kthvalue(len(magnitudes) - kept + 1).values.item()
