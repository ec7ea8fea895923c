"""Times as users write them."""

import re

from mtl.errors import UserError

UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def parse_budget(text: str) -> float:
    """Seconds of a budget such as `90min` or `2h`.

    Raises:
        UserError: If it is not a time above 0.

    >>> parse_budget("1.5h")
    5400.0
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)", text)
    if not match or match[2] not in UNITS or not float(match[1]):
        raise UserError(f"--budget {text}: give a time such as 90min, 2h or 1d")
    return float(match[1]) * UNITS[match[2]]
