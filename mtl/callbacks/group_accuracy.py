"""The share of texts for which all tasks of a label group are right, such as intent and slots."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl.predictions import Predictions
from mtl.tasks import Task


def group_accuracies(
    predictions: Mapping[str, Predictions], tasks: Sequence[Task], groups: Sequence[Sequence[int]]
) -> dict[str, float]:
    """The accuracy of each label group with several tasks that predict classes.

    A text counts if all of these tasks label it; of words, all labelled words must be right.

    Args:
        predictions: The predictions by split.
        tasks: The tasks.
        groups: Indices of the tasks of each group.

    Returns:
        The accuracy by the names of the tasks' splits, such as `intent + slots`.
    """
    accuracies = {}
    for group in groups:
        names = [
            tasks[index].name for index in sorted(group) if tasks[index].kind.value_range is None
        ]
        first = [split for split in predictions if split.partition("/")[0] in names[:1]]
        for split in first if len(names) > 1 else []:
            # The tasks of a group have the same splits.
            splits = [name + split.removeprefix(names[0]) for name in names]
            known = [predictions[each].labelled() for each in splits]
            common = reduce(np.intersect1d, [each.ids.numpy() for each in known])
            if len(common):
                right = [_are_correct(each)[np.isin(each.ids, common)] for each in known]
                accuracies[" + ".join(splits)] = float(np.all(right, axis=0).mean())
    return accuracies


def _are_correct(predictions: Predictions) -> npt.NDArray[Any]:
    correct = predictions.task.kind.is_correct(
        predictions.outputs.numpy(), predictions.labels.numpy()
    )
    assert correct is not None  # tasks that predict a number are not counted
    return correct
