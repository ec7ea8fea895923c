"""The result of a check, as `mtl doctor` shows it."""

from typing import Literal, NamedTuple


class Check(NamedTuple):
    """The result of one check.

    Attributes:
        subject: What was checked.
        result: What was found.
        status: `ok`, `note`, or `problem` if something will not work.
        remedy: What to do if the status is not `ok`.
    """

    subject: str
    result: str
    status: Literal["ok", "note", "problem"] = "ok"
    remedy: str = ""


def format_size(count: int) -> str:
    """A number of bytes in MiB or GiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:,.0f} MiB"
