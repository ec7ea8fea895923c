"""Values of options that accept numbers and certain words only."""

import re
from pathlib import Path

from mtl.bounds import Bounds
from mtl.cli.option_index import Values
from mtl.errors import UserError, did_you_mean, list_words
from mtl.user_files import parse_yaml

# Words that YAML readers take for a truth value, or for a truth value, a number or nothing.
TRUTH_WORDS = "true false yes no on off y n".split()
YAML_WORDS = ["null", "none", *TRUTH_WORDS, "inf", "nan", "infinity"]
_WORD = re.compile(r"[^\W\d][\w-]*")
_INTEGER = re.compile(r"-?\d+")
_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def check_value(where: str, value: str, values: Values | None) -> None:
    """Checks a value of an option that accepts numbers and certain words only.

    Args:
        where: What the message begins with.
        value: The value.
        values: What is accepted; None if that is not known.

    Raises:
        UserError: If the value is certainly not accepted.
    """
    if values is None or value in values.words:
        return
    word = value.lower()  # YAML ignores the case of these words
    if (word == "null" and "null" in values.words) or (
        word in TRUTH_WORDS and "true" in values.words
    ):
        return
    number = _NUMBER.fullmatch(value)
    fraction = values.number == "int" and number and not _INTEGER.fullmatch(value)
    counts = {word for word in values.words if word.isdecimal()}  # such as --trainer.precision 16
    no_number = counts and not values.number and value.isdecimal()
    wrong = _WORD.fullmatch(value) or (values.number and _is_text(value))
    if no_number or fraction or (wrong and not Path(value).is_file()):
        hint = did_you_mean(value, values.words)
        raise UserError(f"{where}: expected {expected(values)}.{hint}")
    if values.bounds and number and float(value) not in Bounds(*values.bounds):
        raise UserError(f"{where}: give {Bounds(*values.bounds)!r}")


def expected(values: Values) -> str:
    """What an option accepts, in words."""
    number = {"int": ["a whole number"], "float": ["a number"]}.get(values.number, [])
    words = [repr(word) for word in values.words if word != "null"]
    return list_words([*number, *words], "or")


def _is_text(value: str) -> bool:
    """Whether a value that begins like a number is text for readers of YAML and for Python."""
    try:
        read = parse_yaml(value, "") if value[:1] in "+-.0123456789" else None
        float(read) if isinstance(read, str) else None
    except (ValueError, UserError):
        return True
    return False
