"""Loss weights from the slopes of the validation losses (CoBa)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl.balancing.loss_weights import Equal
from mtl.bounds import Count, Positive, check_bounds

Floats = npt.NDArray[np.float64]

# A first loss below it would make every later one look large.
SMALLEST_LOSS = 1e-6


class CoBa(Equal):
    """Weights each loss by how fast the task's validation loss falls, compared with the others.

    After each validation, from the second one on, a line is fitted to the last `history` losses of
    each task, divided by its first one; alpha_i is its slope. With K tasks:

    * The relative score softmax_i(K alpha_i / sum_j abs(alpha_j)) is large for slow tasks.
    * The absolute score softmax_i(-N alpha_i / sum_s abs(alpha_i(s))), over the last N = `history`
      slopes of the task, is small for a task whose loss rises.
    * The divergence factor compares the slope of the largest loss with its earlier values: T times
      the last element of the softmax over time of -tau T alpha_max(t) / sum_s abs(alpha_max(s)),
      for T slopes; at most 1.

    The weights are softmax_i(K (factor relative + (1 - factor) absolute)), at least 1 / (10 K), and
    their sum is 1. Before the second validation all tasks have the same weight, so a run needs
    several: `--trainer.val_check_interval 0.25`.

    Source: Gong et al. 2024, CoBa (arXiv 2410.06741), as in the authors' code (MFTCoder), which
    validates on one batch after every step. The limit of the factor is ours: above 1 the absolute
    score would count negatively. The paper's text could not be read in full.

    Args:
        tau: Temperature of the divergence factor.
        history: Number of validations that a slope is fitted to.
    """

    def __init__(self, tau: Positive = 5.0, history: Count = 10) -> None:
        super().__init__()
        self.tau, self.history = tau, history
        check_bounds(CoBa, vars(self), "CoBa: ")
        self._tasks: list[str] = []
        # One list per validation: losses; slopes of the tasks, and of the largest loss.
        self._losses: list[list[float]] = []
        self._slopes: list[list[float]] = []
        self._largest: list[float] = []

    def on_validation_losses(self, losses: Mapping[str, float]) -> None:
        """Updates the weights."""
        self._tasks = self._tasks or sorted(losses)
        self._losses.append([losses[task] for task in self._tasks])
        if len(self._losses) < 2:
            return
        ratios = np.array(self._losses) / np.maximum(self._losses[0], SMALLEST_LOSS)
        recent = ratios[-self.history :]
        self._slopes.append([slope(column) for column in recent.T])
        self._largest.append(slope(recent.max(1)))
        weights = coba_weights(np.array(self._slopes), self._largest, self.tau, self.history)
        # `Equal` divides by the number of tasks.
        self.weights = dict(zip(self._tasks, (len(weights) * weights).tolist(), strict=True))

    def get_extra_state(self) -> dict[str, Any]:
        """The losses, slopes and weights."""
        return {
            "tasks": self._tasks,
            "losses": self._losses,
            "slopes": self._slopes,
            "largest": self._largest,
            "weights": self.weights,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restores the losses, slopes and weights."""
        self._tasks, self._losses = [*state["tasks"]], [*state["losses"]]
        self._slopes, self._largest = [*state["slopes"]], [*state["largest"]]
        self.weights = dict(state["weights"])


def slope(values: Floats) -> float:
    """The slope of the line fitted to equally spaced values, by least squares; 0 for one value."""
    places = np.arange(len(values)) - (len(values) - 1) / 2
    squares = float(places @ places)
    return float(places @ values) / squares if squares else 0.0


def coba_weights(slopes: Floats, largest: Sequence[float], tau: float, history: int) -> Floats:
    """The weights of the tasks, of sum 1.

    Args:
        slopes: Slopes of the tasks' losses, shape (validations, tasks), the last one last.
        largest: Slopes of the largest loss, shape (validations,).
        tau: Temperature of the divergence factor.
        history: Number of slopes that the absolute score looks at.
    """
    tasks, now = slopes.shape[1], slopes[-1]
    relative = _softmax(tasks * _normalized(now))
    absolute = _softmax(-_history_scaled(slopes[-history:]))
    over_time = -len(largest) * _normalized(np.array(largest))
    factor = min(1.0, len(largest) * _softmax(tau * over_time)[-1])
    weights = _softmax(tasks * (factor * relative + (1 - factor) * absolute))
    smallest = 1 / (10 * tasks)
    if (weights < smallest).any():
        weights = weights * (1 - smallest * tasks) + smallest
    return weights


def _history_scaled(slopes: Floats) -> Floats:
    """N alpha_i / sum_s abs(alpha_i(s)) for the last of N slopes, shape (N, tasks)."""
    sums = np.abs(slopes).sum(0)
    return len(slopes) * np.divide(slopes[-1], sums, out=np.zeros_like(sums), where=sums > 0)


def _normalized(values: Floats) -> Floats:
    """The values over the sum of their magnitudes; zeros if all are zero."""
    total = np.abs(values).sum()
    return values / total if total else np.zeros_like(values)


def _softmax(values: Floats) -> Floats:
    exponentials = np.exp(values - values.max())
    return exponentials / exponentials.sum()
