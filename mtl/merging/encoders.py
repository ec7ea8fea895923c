"""Merge encoders with several coefficients."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

from torch import Tensor

from mtl.merging.grid import Coefficients
from mtl.merging.task_vectors import dare, task_arithmetic, ties
from mtl.merging.weights import Weights, add_vector, average_weights, task_vector

# How task vectors become one, given the density and the seed.
MERGES: dict[str, Callable[[Sequence[Weights], float, int], Weights]] = {
    "task_arithmetic": lambda vectors, density, seed: task_arithmetic(vectors),
    "ties": lambda vectors, density, seed: ties(vectors, density),
    "dare": dare,
}


def merged_encoders(
    method: str,
    pretrained: Mapping[str, Tensor],
    models: Sequence[Mapping[str, Tensor]],
    coefficients: Sequence[Coefficients],
    seed: int,
) -> Iterator[tuple[Coefficients, Weights]]:
    """Yields coefficients with the encoder that they give.

    Args:
        method: `mean`, or a name in `MERGES`.
        pretrained: The state dict of the pretrained encoder.
        models: The state dict of each fine-tuned encoder.
        coefficients: The coefficients; equal densities are neighbours.
        seed: Decides which values DARE drops.

    Raises:
        ValueError: If the encoders differ in a name or a shape.
    """
    if method == "mean":
        yield Coefficients(), average_weights(models)
        return
    vectors = [task_vector(pretrained, model) for model in models]
    for density, group in groupby(coefficients, key=lambda each: each.density):
        vector = MERGES[method](vectors, density or 1.0, seed)
        for each in group:
            yield each, add_vector(pretrained, vector, 1.0 if each.scale is None else each.scale)
