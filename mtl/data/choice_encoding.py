"""Encoding of examples that have several candidate texts, one sequence for each."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from mtl.data.checks import Example

# The field with the number of tokens of each candidate's sequence.
LENGTHS = "choice_lengths"


def encode_choices(
    examples: Sequence[Example],
    choices: int,
    encode: Callable[[list[str], list[str]], tuple[dict[str, list[Any]], int]],
) -> tuple[dict[str, list[Any]], int]:
    """Encodes each example with each of its candidates as a pair.

    Args:
        examples: Examples whose last texts are the candidates.
        choices: Number of candidates.
        encode: Encodes first and second texts.

    Returns:
        The fields, with the sequences of an example one after the other, and their lengths; the
        number of examples with a truncated sequence is not known, that of sequences is returned.
    """
    first = [" ".join(each.texts[:-choices]) for each in examples for _ in range(choices)]
    second = [text for each in examples for text in each.texts[-choices:]]
    fields, truncated = encode(first, second)
    starts = range(0, len(first), choices)
    joined: dict[str, list[Any]] = {
        name: [list(chain(*rows[start : start + choices])) for start in starts]
        for name, rows in fields.items()
    }
    lengths = [len(ids) for ids in fields["input_ids"]]
    joined[LENGTHS] = [lengths[start : start + choices] for start in starts]
    return joined, truncated


def split_choices(tokens: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a batch: a row for each sequence. Fields without candidates are unchanged."""
    if LENGTHS not in tokens:
        return dict(tokens)
    lengths = [list(each) for each in tokens[LENGTHS]]
    return {
        name: [
            np.asarray(row)
            for ids, counts in zip(rows, lengths, strict=True)
            for row in np.split(np.asarray(ids), np.cumsum(counts)[:-1])
        ]
        for name, rows in tokens.items()
        if name != LENGTHS
    }
