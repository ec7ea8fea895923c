"""The formulas of merging against their definitions, written in numpy on the whole vectors."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtl.merging.task_vectors import dare, task_arithmetic, ties
from mtl.merging.weights import Weights, add_vector, average_weights, task_vector

SHAPES = {"layer.weight": (5, 4), "layer.bias": (5,), "embedding": (9, 2)}
SIZE = 43


class Models(NamedTuple):
    pretrained: Weights
    tuned: list[Weights]

    @property
    def vectors(self) -> list[Weights]:
        return [task_vector(self.pretrained, model) for model in self.tuned]


def flat(weights: Weights) -> np.ndarray:
    return np.concatenate([weights[name].numpy().astype(float).ravel() for name in SHAPES])


def random_models(count: int, seed: int) -> Models:
    """Models whose differences from the first are sparse, like those of unused embeddings."""
    draw = torch.Generator().manual_seed(seed)
    start = {name: torch.randn(shape, generator=draw) for name, shape in SHAPES.items()}
    tuned = []
    for _ in range(count):
        changes = {name: torch.randn(shape, generator=draw) for name, shape in SHAPES.items()}
        used = {name: torch.rand(shape, generator=draw) < 0.8 for name, shape in SHAPES.items()}
        tuned.append({name: start[name] + changes[name] * used[name] for name in SHAPES})
    return Models(start, tuned)


models = st.builds(random_models, st.integers(1, 4), st.integers(0, 2**20))
densities = st.floats(0.01, 1.0)
scales = st.floats(-1.0, 2.0)
close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


@given(models)
def test_the_mean_is_the_mean_of_each_weight(models: Models) -> None:
    expected = np.mean([flat(model) for model in models.tuned], axis=0)
    close(flat(average_weights(models.tuned)), expected)


@given(models, scales)
def test_task_arithmetic_adds_the_scaled_sum_of_task_vectors(models: Models, scale: float) -> None:
    merged = add_vector(models.pretrained, task_arithmetic(models.vectors), scale)
    start = flat(models.pretrained)
    close(flat(merged), start + scale * sum(flat(model) - start for model in models.tuned))


def ties_in_numpy(vectors: Sequence[np.ndarray], density: float) -> np.ndarray:
    """Algorithm 1 of Yadav et al. 2023, parameter by parameter."""
    trimmed = []
    for vector in vectors:
        largest = np.argsort(-np.abs(vector))[: max(1, round(density * len(vector)))]
        trimmed.append(np.where(np.isin(np.arange(len(vector)), largest), vector, 0.0))
    merged = np.zeros_like(vectors[0])
    for index, values in enumerate(np.stack(trimmed, 1)):
        positive = values[values > 0].sum() > -values[values < 0].sum()
        agreeing = values[values > 0] if positive else values[values < 0]
        merged[index] = agreeing.mean() if len(agreeing) else 0.0
    return merged


@given(models, densities, scales)
def test_ties_trims_elects_signs_and_averages_those_that_agree(
    models: Models, density: float, scale: float
) -> None:
    merged = add_vector(models.pretrained, ties(models.vectors, density), scale)
    vectors = [flat(vector) for vector in models.vectors]
    close(flat(merged), flat(models.pretrained) + scale * ties_in_numpy(vectors, density))


def test_ties_keeps_the_largest_values_of_the_whole_vector() -> None:
    vector = {"small": torch.tensor([0.1, -0.2]), "large": torch.tensor([-3.0, 0.3, 2.0])}
    merged = ties([vector], density=0.4)
    assert merged["small"].tolist() == [0.0, 0.0]
    assert merged["large"].tolist() == [-3.0, 0.0, 2.0]


def test_ties_leaves_parameters_whose_values_cancel_pretrained() -> None:
    one, two = torch.tensor([1.0, 2.0, -1.0]), torch.tensor([-1.0, -1.0, -3.0])
    assert ties([{"w": one}, {"w": two}], density=1.0)["w"].tolist() == [0.0, 2.0, -2.0]


@given(models, densities)
def test_with_agreeing_signs_ties_of_density_1_is_the_mean(models: Models, scale: float) -> None:
    up = [{name: value.abs() + 0.1 for name, value in each.items()} for each in models.vectors]
    tuned = [add_vector(models.pretrained, vector, 1.0) for vector in up]
    merged = add_vector(models.pretrained, ties(up, density=1.0), 1.0)
    close(flat(merged), flat(average_weights(tuned)))


@given(models, densities, st.integers(0, 9))
def test_dare_sums_values_that_are_dropped_or_divided_by_the_density(
    models: Models, density: float, seed: int
) -> None:
    vectors = models.vectors
    expected = np.zeros(SIZE)
    for vector in vectors:
        # The same draw of this vector alone: the others are 0.
        alone = [{name: each[name] * (each is vector) for name in SHAPES} for each in vectors]
        values, kept = flat(vector), flat(dare(alone, density, seed))
        assert np.all((kept == 0) | np.isclose(kept, values / density, rtol=1e-5))
        expected += kept
    close(flat(dare(vectors, density, seed)), expected, rtol=1e-4, atol=1e-4)


def test_dare_keeps_each_vectors_values_independently_with_the_given_probability() -> None:
    ones, zeros = {"w": torch.ones(20_000)}, {"w": torch.zeros(20_000)}
    one, two = (dare(pair, 0.3, seed=1)["w"] > 0 for pair in ([ones, zeros], [zeros, ones]))
    assert one.double().mean().item() == pytest.approx(0.3, abs=0.02)
    assert two.double().mean().item() == pytest.approx(0.3, abs=0.02)
    assert (one & two).double().mean().item() == pytest.approx(0.09, abs=0.02)


def test_the_seed_of_dare_decides_what_is_dropped_whatever_the_order_of_names() -> None:
    vectors = random_models(3, seed=0).vectors
    reversed_names = [dict(reversed(vector.items())) for vector in vectors]
    first = flat(dare(vectors, 0.5, seed=7))
    assert np.array_equal(first, flat(dare(reversed_names, 0.5, seed=7)))
    assert not np.array_equal(first, flat(dare(vectors, 0.5, seed=8)))


@given(models, st.integers(0, 9))
def test_dare_that_drops_nothing_is_task_arithmetic(models: Models, seed: int) -> None:
    merged, expected = dare(models.vectors, 1.0, seed), task_arithmetic(models.vectors)
    assert all(torch.equal(merged[name], expected[name]) for name in SHAPES)


@given(models, densities)
def test_with_scale_0_every_merged_model_is_the_pretrained_one(
    models: Models, density: float
) -> None:
    for vector in (
        task_arithmetic(models.vectors),
        ties(models.vectors, density),
        dare(models.vectors, density, seed=0),
    ):
        merged = add_vector(models.pretrained, vector, 0.0)
        assert all(torch.equal(merged[name], models.pretrained[name]) for name in SHAPES)


def test_numbers_that_are_not_weights_stay_those_of_the_pretrained_model() -> None:
    start = {"w": torch.ones(2, dtype=torch.bfloat16), "positions": torch.arange(3)}
    tuned = start | {"w": torch.full((2,), 3.0, dtype=torch.bfloat16)}
    merged = add_vector(start, task_arithmetic([task_vector(start, tuned)]), 0.5)
    assert merged["w"].tolist() == [2.0, 2.0] and merged["w"].dtype == torch.bfloat16
    assert torch.equal(merged["positions"], start["positions"])
    assert torch.equal(average_weights([start, tuned])["positions"], start["positions"])


def test_models_of_other_shapes_or_names_are_rejected() -> None:
    one = {"w": torch.ones(2), "n": torch.tensor(3)}
    longer, without = {"w": torch.ones(3), "n": torch.tensor(3)}, {"w": torch.ones(2)}
    for compare in (task_vector, lambda first, other: average_weights([first, other])):
        with pytest.raises(ValueError, match=r"w has shape \(2,\) in one model and \(3,\) in"):
            compare(one, longer)
        with pytest.raises(ValueError, match="only one of the models has n"):
            compare(one, without)
