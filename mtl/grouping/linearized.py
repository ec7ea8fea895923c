"""Losses of groups of tasks, from the gradients of a model that is trained on all of them.

No torch: the gradients are read from files.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from mtl.grouping.gains import Gains

Floats = npt.NDArray[np.float64]

# Values of the ridge that are tried; gradients are scaled to a mean square norm of 1.
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
TRAINING, VALIDATION = "train", "validation"


class Examples(NamedTuple):
    """Examples of one task at the weights of a snapshot.

    The loss of an example is log(1 + exp(-margin)), whatever its kind: for classes the margin is
    the log-odds of the right class.

    Attributes:
        margins: Shape (examples,).
        gradients: Projected gradients of the margins, shape (examples, dimension).
    """

    margins: Floats
    gradients: Floats

    def losses(self, change: Floats) -> Floats:
        """The losses after a projected change of the weights, to first order; (examples,)."""
        return np.logaddexp(0, -(self.margins + self.gradients @ change))


class Snapshot(NamedTuple):
    """A model on its way through the training of all tasks.

    Attributes:
        train: Training examples by task.
        validation: Validation examples by task.
    """

    train: Mapping[str, Examples]
    validation: Mapping[str, Examples]

    @property
    def dimension(self) -> int:
        """Dimension of the projected gradients."""
        return next(iter(self.train.values())).gradients.shape[1]


def estimated_gains(snapshot: Snapshot, groups: Iterable[frozenset[str]]) -> Gains:
    """For each group the relative reduction of each task's estimated loss: 1 - loss / loss alone.

    The change of the weights that training on a group makes is estimated by logistic regression on
    the projected gradients of its training examples, with the margins as offsets; the loss of a
    task is then that of its validation examples, to first order.

    Source: Li et al. 2025 (EnsembleLoRA, arXiv 2505.21930) and Li et al. 2024 (GradEx), as in the
    authors' code: log-odds as offsets, random projection, ridge. Different here: tasks have equal
    weights, the loss is evaluated by the linear model and not by the network, and any loss is
    written as that of a margin. The ridge is the value of `RIDGES` with the lowest mean loss over
    single tasks and all tasks together.

    Args:
        snapshot: The gradients.
        groups: The groups.
    """
    snapshot = _scaled(snapshot)
    ridge = chosen_ridge(snapshot)
    alone = {task: group_losses(snapshot, [task], ridge)[task] for task in snapshot.train}
    found = {}
    for group in groups:
        losses = group_losses(snapshot, sorted(group), ridge) if len(group) > 1 else alone
        found[group] = {task: 1 - losses[task] / alone[task] for task in group}
    return found


def chosen_ridge(snapshot: Snapshot) -> float:
    """The ridge with the lowest mean loss over single tasks and all tasks together."""
    tasks = list(snapshot.train)

    def mean_loss(ridge: float) -> float:
        single = [group_losses(snapshot, [task], ridge)[task] for task in tasks]
        return float(np.mean([*single, *group_losses(snapshot, tasks, ridge).values()]))

    return min(RIDGES, key=mean_loss)


def group_losses(snapshot: Snapshot, group: Sequence[str], ridge: float) -> dict[str, float]:
    """The estimated loss of each task of a group on its validation examples."""
    change = fitted_change([snapshot.train[task] for task in group], ridge)
    return {task: float(snapshot.validation[task].losses(change).mean()) for task in group}


def fitted_change(parts: Sequence[Examples], ridge: float) -> Floats:
    """The projected change of the weights with the lowest mean loss over tasks, plus a ridge.

    Minimizes mean_t mean_i log(1 + exp(-(m_ti + g_ti . w))) + ridge / 2 * |w|^2.

    Args:
        parts: Training examples of each task.
        ridge: Weight of the squared norm.

    Returns:
        w, shape (dimension,).
    """
    margins = np.concatenate([part.margins for part in parts])
    gradients = np.concatenate([part.gradients for part in parts])
    weights = np.concatenate(
        [np.full(len(part.margins), 1 / len(part.margins) / len(parts)) for part in parts]
    )

    def objective(change: Floats) -> tuple[float, Floats]:
        shifted = margins + gradients @ change
        loss = weights @ np.logaddexp(0, -shifted) + ridge / 2 * change @ change
        return float(loss), -(weights * expit(-shifted)) @ gradients + ridge * change

    start = np.zeros(gradients.shape[1])
    found: Floats = minimize(objective, start, jac=True, method="L-BFGS-B").x
    return found


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Writes a snapshot to an open `.npz` file's path."""
    arrays = {
        f"{split}/{task}/{name}": values.astype(np.float32)
        for split, parts in zip((TRAINING, VALIDATION), snapshot, strict=True)
        for task, examples in parts.items()
        for name, values in examples._asdict().items()
    }
    with path.open("wb") as file:
        np.savez(file, **arrays)


def read_snapshot(path: Path) -> Snapshot:
    """Reads what `write_snapshot` wrote."""
    with np.load(path) as arrays:
        values = {name: arrays[name].astype(np.float64) for name in arrays.files}
    tasks = dict.fromkeys(name.split("/")[1] for name in values)
    train, validation = (
        {
            task: Examples(values[f"{split}/{task}/margins"], values[f"{split}/{task}/gradients"])
            for task in tasks
        }
        for split in (TRAINING, VALIDATION)
    )
    return Snapshot(train, validation)


def _scaled(snapshot: Snapshot) -> Snapshot:
    """The snapshot with gradients of a mean square norm of 1, so that a ridge suits any model."""
    squares = [(each.gradients**2).sum(1).mean() for each in snapshot.train.values()]
    scale = np.sqrt(np.mean(squares)) or 1.0
    train, validation = (
        {task: Examples(each.margins, each.gradients / scale) for task, each in parts.items()}
        for parts in snapshot
    )
    return Snapshot(train, validation)
