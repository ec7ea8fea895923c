"""Numbers as text for the cells of a report."""

import math
import statistics
from collections.abc import Sequence
from pathlib import PurePath

from mtl.compare.statistics import Difference


def mean_and_std(values: Sequence[float]) -> str:
    """Mean and sample standard deviation; empty without values."""
    if not values:
        return ""
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{deviation}"


def interval(difference: Difference) -> str:
    """A difference with its 95 % interval, if it has one."""
    if math.isnan(difference.low):
        return f"{difference.mean:+.1f}"
    return f"{difference.mean:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]"


def p_value(value: float) -> str:
    """A p-value; empty for NaN."""
    return "" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def per_cent(value: float) -> str:
    """A change in per cent; empty for NaN."""
    return "" if math.isnan(value) else f"{value:+.1f} %"


def number(value: float | None) -> str:
    """A count or a duration; empty for None."""
    return "" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def without_folders(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments in which absolute paths, which differ between machines.

    Are cut to their last component.
    """
    return [
        PurePath(argument).name if PurePath(argument).is_absolute() else argument
        for argument in arguments
    ]
