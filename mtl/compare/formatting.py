"""Numbers as text for the cells of a report."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import PurePath


def mean_and_std(values: Sequence[float]) -> str:
    """Mean and sample standard deviation; empty without values."""
    if not values:
        return ""
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{deviation}"


def interval(difference: float, low: float, high: float) -> str:
    """A difference with its interval, if it has one; empty for NaN."""
    if math.isnan(difference):
        return ""
    return f"{difference:+.1f}" + ("" if math.isnan(low) else f" [{low:+.1f}, {high:+.1f}]")


def p_value(value: float) -> str:
    """A p-value; empty for NaN."""
    return "" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


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


def format_versions(versions: Mapping[str, str]) -> str:
    """Library versions as text."""
    return ", ".join(f"{library} {version}" for library, version in versions.items())
