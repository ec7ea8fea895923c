"""Loss weights by the number of classes."""

import math
from collections.abc import Mapping
from typing import Any

from mtl.balancing.loss_weights import Equal


class LogClasses(Equal):
    """Divides each loss by the logarithm of its number of classes n.

    If all classes are equally probable, cross-entropy is log(n), and every task's loss becomes 1.
    A class of a multi-label task is a decision between two; losses of numbers are not divided.

    Source: Aghajanyan et al. 2021, "Muppet", section 3.2, loss scaling.
    """

    def on_fit_start(self, method: Any, sizes: Mapping[str, int]) -> None:
        """Computes the weights from the tasks."""
        self.weights = {
            task.name: 1 / math.log(_classes(task.kind))
            for task in method.tasks
            if task.kind.value_range is None
        }


def _classes(kind: Any) -> int:
    """The number of classes that a decision chooses from."""
    return kind.output_size if kind.has_class_probabilities else 2
