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
    first, second = choice_pairs([each.texts for each in examples], choices)
    fields, truncated = encode(first, second)
    starts = range(0, len(first), choices)
    joined: dict[str, list[Any]] = {
        name: [list(chain(*rows[start : start + choices])) for start in starts]
        for name, rows in fields.items()
    }
    lengths = [len(ids) for ids in fields["input_ids"]]
    joined[LENGTHS] = [lengths[start : start + choices] for start in starts]
    return joined, truncated


def choice_pairs(examples: Sequence[tuple[str, ...]], choices: int) -> tuple[list[str], list[str]]:
    """The first and the second text of each sequence: an example's texts, and a candidate."""
    first = [" ".join(texts[:-choices]) for texts in examples for _ in range(choices)]
    second = [text for texts in examples for text in texts[-choices:]]
    return first, second


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
