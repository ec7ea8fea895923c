"""How a task's numbers become a loss, and what they say: class probabilities or a value."""

from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from mtl.errors import UserError
from mtl.tasks import Task

LossName = Literal[
    "cross_entropy",
    "ordinal",
    "binary",
    "cross_entropy_ordinal",
    "cross_entropy_binary",
    "squared_error",
    "cosine",
]


class Loss(Protocol):
    """What a method asks of a task's loss.

    Attributes:
        size: How many numbers (logits, or a value) it wants for each row.
        of_values: Whether they are a value, rather than a distribution.
    """

    size: int
    of_values: bool

    def of_rows(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each row, (rows,), of its numbers (rows, size); 0 where a class is unknown (-1)."""

    def outputs(self, logits: Tensor) -> Tensor:
        """Class probabilities (rows, classes), or values (rows, 1)."""

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """How far others lie from the logits of each row, (rows,)."""


class CrossEntropy:
    """Softmax over the classes."""

    of_values = False

    def __init__(self, classes: int) -> None:
        self.size = classes

    def of_rows(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Minus the log-probability of each row's class."""
        return F.cross_entropy(logits, labels, reduction="none", ignore_index=-1)

    def outputs(self, logits: Tensor) -> Tensor:
        """The softmax."""
        return logits.softmax(-1)

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Kullback-Leibler of the others' probabilities from the logits'."""
        return F.kl_div(
            others.log_softmax(-1), logits.log_softmax(-1), reduction="none", log_target=True
        ).sum(-1)


class SquaredError:
    """A value, as it stands."""

    of_values = True

    def __init__(self) -> None:
        self.size = 1

    def of_rows(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The square of each row's error."""
        return (logits[:, 0] - labels.float()) ** 2

    def outputs(self, logits: Tensor) -> Tensor:
        """The value."""
        return logits

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """The square of the difference."""
        return (logits[:, 0] - others[:, 0]) ** 2


class Binary:
    """A yes or no for each class (one against the rest): mean of the binary cross-entropies.

    Source: the CS224N project's "multiple binary entropy" (specification C.3).
    """

    of_values = False

    def __init__(self, classes: int) -> None:
        self.size = self.classes = classes

    def targets(self, labels: Tensor) -> Tensor:
        """What each number should say, 0 or 1, (rows, size)."""
        return F.one_hot(labels, self.classes).float()

    def of_rows(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over a row's numbers of their binary cross-entropy."""
        known = labels >= 0
        losses = F.binary_cross_entropy_with_logits(
            logits, self.targets(labels.clamp(min=0)), reduction="none"
        )
        return losses.mean(-1) * known

    def outputs(self, logits: Tensor) -> Tensor:
        """The numbers' probabilities as shares of their sum."""
        yes = logits.sigmoid()
        return yes / yes.sum(-1, keepdim=True)

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """The mean over a row's numbers of the Kullback-Leibler divergence between their two Bernoulli distributions."""
        yes = logits.sigmoid()
        return (
            yes * (F.logsigmoid(logits) - F.logsigmoid(others))
            + (1 - yes) * (F.logsigmoid(-logits) - F.logsigmoid(-others))
        ).mean(-1)


class Ordinal(Binary):
    """For ordered classes: a yes or no for each threshold, "above class k?"; a row of class k is above all before it.

    Source: Frank and Hall 2001; Niu et al. 2016, section 3.2.
    """

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.size = classes - 1

    def targets(self, labels: Tensor) -> Tensor:
        """1 for each threshold that the row's class is above, (rows, classes - 1)."""
        return (labels.unsqueeze(-1) > torch.arange(self.size, device=labels.device)).float()

    def outputs(self, logits: Tensor) -> Tensor:
        """Differences between neighbouring thresholds' probabilities; none below 0, as shares of their sum."""
        above = logits.sigmoid()
        one, none = above.new_ones(len(above), 1), above.new_zeros(len(above), 1)
        shares = (torch.cat([one, above], 1) - torch.cat([above, none], 1)).clamp(min=0)
        return shares / shares.sum(-1, keepdim=True)


class Both:
    """Two losses on numbers of their own, added; probabilities are the mean of the two.

    The CS224N project adds the two heads' logits instead, which `Ordinal` has not as many of.
    """

    of_values = False

    def __init__(self, first: Loss, second: Loss) -> None:
        self.first, self.second = first, second
        self.size = first.size + second.size

    def of_rows(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum of the two."""
        one, two = self._parts(logits)
        return self.first.of_rows(one, labels) + self.second.of_rows(two, labels)

    def outputs(self, logits: Tensor) -> Tensor:
        """The mean of the two."""
        one, two = self._parts(logits)
        return (self.first.outputs(one) + self.second.outputs(two)) / 2

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """The sum of the two."""
        pairs = zip(
            (self.first, self.second), self._parts(logits), self._parts(others), strict=True
        )
        one, two = (loss.divergences(*both) for loss, *both in pairs)
        return one + two

    def _parts(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return logits[:, : self.first.size], logits[:, self.first.size :]


class BothAdded(Both):
    """Softmax and one against the rest; the class is that of the largest sum of logits, as the CS224N project has it."""

    def outputs(self, logits: Tensor) -> Tensor:
        """The softmax of the sum of the two heads' logits."""
        one, two = self._parts(logits)
        return (one + two).softmax(-1)


class Interpolation(CrossEntropy):
    """A number between two words: the second's share among the two, from the lowest value to the highest.

    Source: Gao et al. 2021 (LM-BFF), section 4.1, after Mettes et al. 2019; the loss is the Kullback-Leibler divergence of
    the two shares from the target's.

    Args:
        low: The lowest value.
        high: The highest value.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__(2)
        self.low, self.high = low, high

    def of_rows(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The divergence of each row's shares from its target's."""
        share = (labels.float() - self.low) / (self.high - self.low)
        wanted = torch.stack([1 - share, share], -1)
        return F.kl_div(logits.log_softmax(-1), wanted, reduction="none").sum(-1)

    def outputs(self, logits: Tensor) -> Tensor:
        """The value that the second word's share stands for."""
        return self.low + (self.high - self.low) * logits.softmax(-1)[:, 1:]


def loss_of(task: Task, name: LossName | None) -> Loss:
    """A task's loss by name; cross-entropy or squared error where none is given.

    Raises:
        UserError: If it does not fit the task.
    """
    usual: LossName = "squared_error" if task.regression else "cross_entropy"
    classes = len(task.classes)
    if task.regression:
        made: dict[str, Loss] = {"squared_error": SquaredError(), "cosine": SquaredError()}
    else:
        made = {
            "cross_entropy": CrossEntropy(classes),
            "ordinal": Ordinal(classes),
            "binary": Binary(classes),
            "cross_entropy_ordinal": Both(CrossEntropy(classes), Ordinal(classes)),
            "cross_entropy_binary": BothAdded(CrossEntropy(classes), Binary(classes)),
        }
    if (name or usual) not in made:
        raise UserError(
            f"losses: {name!r} is not for {task.name!r}, a {task.kind.name}; choose from {', '.join(made)}"
        )
    if name == "cosine" and not task.pair:
        raise UserError(f"losses: cosine compares two texts, and {task.name!r} has one")
    return made[name or usual]
