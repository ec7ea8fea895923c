"""Checks of the texts that a model is to predict for."""

from collections.abc import Sequence
from typing import Any

from mtl.data.text_faults import is_blank, unusable_characters
from mtl.errors import UserError, shorten

Text = str | Sequence[str]
"""One example: a text, or a pair of two texts."""


def text_fault(text: object) -> str | None:
    """What is wrong with a text, such as `is empty ('')`; None if it can be used."""
    if is_blank(text):
        return f"is empty ({text!r})"
    if not isinstance(text, str):
        return f"holds {shorten(text)}, which is not text"
    return unusable_characters(text)


def checked_texts(texts: Sequence[Any]) -> list[tuple[str, ...]]:
    """Checks texts or pairs, and returns each example as a tuple.

    Raises:
        UserError: If a text is empty or not a string, or single texts are mixed with pairs.
    """
    if isinstance(texts, str):
        raise UserError(
            f"texts is a single string, {shorten(texts)}; give a list of texts, or of pairs"
        )
    examples: list[Any] = [
        (text,) if isinstance(text, str) or text is None else text for text in texts
    ]
    for index, example in enumerate(examples):
        if not isinstance(example, tuple | list) or not example:
            raise UserError(
                f"texts[{index}] holds {shorten(example)}, which is neither a text nor a pair of "
                "two texts"
            )
        if len(example) != len(examples[0]):
            kinds = {1: "a single text", 2: "a pair"}
            actual, first = (
                kinds.get(len(each), f"{len(each)} texts") for each in (example, examples[0])
            )
            raise UserError(
                f"texts[{index}] is {actual}, but texts[0] is {first}; give only single texts or "
                "only pairs"
            )
        for column, text in enumerate(example):
            if fault := text_fault(text):
                where = f"texts[{index}]" + (f"[{column}]" if len(example) > 1 else "")
                raise UserError(f"{where} {fault}")
    return [tuple(example) for example in examples]
