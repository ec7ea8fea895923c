import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from torchmetrics.functional.classification import multiclass_calibration_error

from mtl.calibration import calibration_error, fit_temperature, mean_loss
from mtl.methods.task_model import scaled


def sample(seed: int, classes: int, sharpness: float, count: int = 400) -> tuple[np.ndarray, ...]:
    """Probabilities that are too extreme by the factor `sharpness`, and labels."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(count, classes)) * 2
    labels = [draw.choice(classes, p=row) for row in softmax(logits, -1)]
    return softmax(logits * sharpness, -1).astype(np.float32), np.asarray(labels)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    classes=st.integers(2, 6),
    sharpness=st.floats(0.3, 4),
    bins=st.integers(1, 20),
)
def test_the_error_is_that_of_torchmetrics_and_of_the_definition(
    seed: int, classes: int, sharpness: float, bins: int
) -> None:
    probabilities, labels = sample(seed, classes, sharpness, 60)
    error = calibration_error(probabilities, labels, bins)
    defined = 0.0
    for low in np.arange(bins) / bins:
        inside = [
            (max(row), int(np.argmax(row) == label))
            for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True)
            if low < max(row) <= low + 1 / bins + 1e-12
        ]
        if inside:
            confidence, accuracy = np.mean(inside, 0)
            defined += len(inside) / len(labels) * abs(accuracy - confidence)
    assert error == pytest.approx(defined, abs=1e-6)
    if bins > 1:  # with one bin torchmetrics splits off confidences of exactly 1
        theirs = multiclass_calibration_error(
            torch.from_numpy(probabilities), torch.from_numpy(labels), classes, bins, "l1"
        )
        assert error == pytest.approx(float(theirs), abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), classes=st.integers(2, 5), sharpness=st.floats(0.5, 4))
def test_the_temperature_minimizes_the_loss(seed: int, classes: int, sharpness: float) -> None:
    probabilities, labels = sample(seed, classes, sharpness)
    temperature = fit_temperature(probabilities, labels)
    # The derivative of the loss by 1/T is zero: the mean logit of the labels is the expected one.
    logits = np.log(probabilities.astype(float))
    expected = (softmax(logits / temperature, -1) * logits).sum(-1).mean()
    assert logits[np.arange(len(labels)), labels].mean() == pytest.approx(expected, abs=1e-4)
    # As torch computes it, on a grid.
    losses = {
        value: float(
            torch.nn.functional.cross_entropy(
                torch.from_numpy(logits / value), torch.from_numpy(labels)
            )
        )
        for value in temperature * np.linspace(0.5, 2, 31)
    }
    assert mean_loss(probabilities, labels, temperature) <= min(losses.values()) + 1e-9
    assert temperature == pytest.approx(sharpness, rel=0.5)


def test_scaled_probabilities_are_the_softmax_of_divided_logits() -> None:
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)) * 5
    torch.testing.assert_close(scaled(logits.softmax(-1), 1.7), (logits / 1.7).softmax(-1))
    assert scaled(torch.tensor([[1.0, 0.0]]), 3.0).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("probabilities", "labels", "reason"),
    [
        ([], [], "no validation examples with a label"),
        ([[0.6, 0.4], [0.1, 0.9]], [0, 1], "all 2 validation examples are predicted correctly"),
        ([[0.6, 0.4], [0.1, 0.9], [0.3, 0.7]], [1, 0, 1], "not better than chance"),
    ],
)
def test_what_no_temperature_fits_is_refused(
    probabilities: list[list[float]], labels: list[int], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        fit_temperature(np.array(probabilities).reshape(-1, 2), np.array(labels, np.int64))
