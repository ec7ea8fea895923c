"""What is wrong with a text, or with the names of its columns."""

import re

from mtl.errors import shorten

_BLANK = re.compile(r"[\s\u200b-\u200d\u2060\ufeff]*")
# How the fields of a line are separated, by the delimiter.
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


def delimiter_hint(columns: list[str]) -> str:
    """What to do if the header is one field, because another delimiter separates its names."""
    if len(columns) != 1:
        return ""
    for delimiter, name in DELIMITERS.items():
        if delimiter in columns[0]:
            return (
                f" The names are separated by {name}: .csv files need commas, .tsv and .txt files "
                "tabs; rename or convert the file."
            )
    return ""


def is_blank(text: object) -> bool:
    """Whether a text is missing, or holds only white space and characters without width."""
    return text is None or (isinstance(text, str) and bool(_BLANK.fullmatch(text)))


def unusable_characters(text: str) -> str | None:
    """What no tokenizer reads as text, such as zero bytes; None if there is nothing of the kind."""
    if "\0" in text:
        start = text.index("\0")
        return f"holds a zero byte: {shorten(text[max(0, start - 20) : start + 20])}"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        context = text[max(0, error.start - 20) : error.start + 20]
        if "\udc80" <= text[error.start] <= "\udcff":  # a byte, read with `surrogateescape`
            shown = shorten(context.encode("utf-8", "surrogateescape"))
            return f"is not UTF-8: {shown}; save the file as UTF-8"
        return f"is not UTF-8: it holds half of a surrogate pair: {shorten(context)}"
    return None
