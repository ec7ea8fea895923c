"""Rows with given scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtl.compare.estimate import Floats, RowScores


def scored(
    row: str, scores: Sequence[float] | Floats, *arguments: Any, **options: Any
) -> RowScores:
    """A row with these scores; the other arguments are those of `RowScores`."""
    return RowScores(row, np.asarray(scores, dtype=float), *arguments, **options)
