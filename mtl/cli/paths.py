"""Paths in the words of a command."""

import re
from collections.abc import Sequence

from mtl.errors import UserError
from mtl.user_files import expand_path

# A word, or the value of an option, that begins like a path from a home directory or a variable.
_BEGINS_WITH = re.compile(r"(--?[\w.+-]+=|-c)?((?:~[\w-]*|\$\w+|\$\{\w+\})(?:/.*)?)", re.DOTALL)


def expand_paths(arguments: Sequence[str]) -> list[str]:
    """Replaces `~` and variables at the beginning of paths, as in `--out=~/run`.

    The shell does so only in some places, and programs that start a command do not do so at all.

    Raises:
        UserError: If a variable is not set.
    """
    return [_expanded(word) for word in arguments]


def reject_empty_values(arguments: Sequence[str]) -> None:
    """Rejects empty values, such as that of `--out "$OUT"` if the variable is empty.

    Raises:
        UserError: If an argument is empty, or an option with `=` has no value.
    """
    for index, word in enumerate(arguments):
        if not word or re.fullmatch(r"--[\w.+-]+=", word):
            option = (word or (arguments[index - 1] if index else "")).partition("=")[0]
            where = f"{option}: " if option.startswith("-") else ""
            raise UserError(f"{where}the value is empty; give one, or omit the option")


def _expanded(word: str) -> str:
    match = _BEGINS_WITH.fullmatch(word)
    return f"{match[1] or ''}{expand_path(match[2])}" if match else word
