"""Calibration of class probabilities: temperature scaling and its error, on arrays.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", sections 2 and 4.2.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

Floats = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.int64]

BINS = 15
# Temperatures that are tried; the best one of a usable model is far from both ends.
LOWEST, HIGHEST = 0.02, 50.0
# Smaller probabilities count as this large: their logarithm would be infinite.
SMALLEST = 1e-38


def calibration_error(probabilities: Floats, labels: Indices, bins: int = BINS) -> float:
    """Expected calibration error: by how much confidence and accuracy differ.

    Examples are divided into bins of equal width by the probability of their most probable class.
    The error is the mean over the examples of |accuracy - mean confidence| of their bin.

    Args:
        probabilities: Shape (examples, classes).
        labels: Class indices, shape (examples,).
        bins: Number of bins.

    Source: Guo et al. 2017, equation 3.
    """
    confidence = probabilities.max(-1).astype(np.float64)
    excess = (probabilities.argmax(-1) == labels) - confidence
    # The bins are (0, 1/n], (1/n, 2/n], ...
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    sums = np.bincount(index, weights=excess, minlength=bins)
    return float(np.abs(sums).sum() / len(labels))


def mean_loss(probabilities: Floats, labels: Indices, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of the labels with a temperature."""
    logits = _log(probabilities) / temperature
    picked = np.take_along_axis(logits, labels[:, None], -1)[:, 0]
    return float((logsumexp(logits, axis=-1) - picked).mean())


def fit_temperature(probabilities: Floats, labels: Indices) -> float:
    """The temperature that minimizes the negative log-likelihood of the labels.

    Probabilities p become p^(1/T) over its sum, which for a softmax are the logits divided by T.
    The loss is convex in 1/T.

    Args:
        probabilities: Shape (examples, classes).
        labels: Class indices, shape (examples,).

    Raises:
        ValueError: If no temperature is best, which says why.
    """
    if not len(labels):
        raise ValueError("there are no validation examples with a label")
    if (probabilities.argmax(-1) == labels).all():
        raise ValueError(
            f"all {len(labels)} validation examples are predicted correctly, so that the lower the "
            "temperature, the smaller the loss"
        )
    found = minimize_scalar(
        lambda value: mean_loss(probabilities, labels, math.exp(value)),
        bounds=(math.log(LOWEST), math.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    temperature = math.exp(found.x)
    if not LOWEST * 1.01 < temperature < HIGHEST / 1.01:
        raise ValueError(
            f"no temperature between {LOWEST:g} and {HIGHEST:g} is best: the predictions are not "
            "better than chance on the validation examples"
        )
    return temperature


def _log(probabilities: Floats) -> npt.NDArray[np.float64]:
    logs: npt.NDArray[np.float64] = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))
    return logs
