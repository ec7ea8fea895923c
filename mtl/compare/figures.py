"""Figures of matplotlib without its global state."""

from typing import Any


def new_figure(width: float, height: float) -> Any:
    """A figure that belongs to no window.

    Args:
        width: In inches.
        height: In inches.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
