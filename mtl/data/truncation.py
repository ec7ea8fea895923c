"""Encodes texts, and cuts those that have more than the maximum length."""

from collections.abc import Sequence
from typing import Any, cast

from transformers import PreTrainedTokenizerFast

from mtl.tasks.task import Truncation

# The fields of the texts, and how many texts were truncated.
TextFields = tuple[dict[str, list[Any]], int]

# Share of the kept tokens that `head_tail` takes from the start of a text: Sun et al. 2019, "How to
# fine-tune BERT for text classification", section 5.3.1, keeps 128 of 510.
HEAD_SHARE = 128 / 510


def kept_positions(
    sequence_ids: Sequence[int | None], max_length: int, truncation: Truncation
) -> list[int]:
    """The positions of the tokens that remain; special tokens always do.

    The longest text is cut until all texts have the same length, then all of them alike.

    Args:
        sequence_ids: The text of each token: 0 or 1; None for a special token.
        max_length: Maximum number of tokens.
        truncation: What is cut from a text.
    """
    texts = [
        [position for position, text in enumerate(sequence_ids) if text == number]
        for number in (0, 1)
    ]
    room = max(0, max_length - (len(sequence_ids) - sum(map(len, texts))))
    first, second = (len(text) for text in texts)
    if first + second <= room:
        return list(range(len(sequence_ids)))
    shorter = min(first, second)
    longer = max(shorter, room - shorter)
    if shorter + longer > room:
        shorter, longer = room // 2, room - room // 2
    counts = (longer, shorter) if first > second else (shorter, longer)
    cut = {
        position
        for text, count in zip(texts, counts, strict=True)
        for position in _cut(text, count, truncation)
    }
    return [position for position in range(len(sequence_ids)) if position not in cut]


def _cut(text: list[int], count: int, truncation: Truncation) -> list[int]:
    """The positions of a text that are removed so that `count` remain."""
    head = {"right": count, "left": 0, "head_tail": round(count * HEAD_SHARE)}[truncation]
    return text[head : head + len(text) - count]


def encode_texts(tokenizer: PreTrainedTokenizerFast, *texts: list[str], length: int) -> TextFields:
    """Encodes texts or pairs; the end of the longer text is cut."""
    encoded = tokenizer(
        *texts, truncation="longest_first", max_length=length, return_attention_mask=False
    )
    truncated = sum(bool(item.overflowing) for item in encoded.encodings or ())
    return {name: cast(list[Any], ids) for name, ids in encoded.items()}, truncated


def encode_truncated(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[list[str]],
    max_length: int,
    truncation: Truncation,
) -> TextFields:
    """Encodes texts, then cuts each example that is too long."""
    encoded = tokenizer(*texts, truncation=False, return_attention_mask=False, verbose=False)
    kept = [
        kept_positions(item.sequence_ids, max_length, truncation)
        for item in encoded.encodings or ()
    ]
    fields = {
        name: [
            [ids[position] for position in positions]
            for ids, positions in zip(cast(list[Any], column), kept, strict=True)
        ]
        for name, column in encoded.items()
    }
    cut = sum(
        len(positions) < len(item.ids)
        for item, positions in zip(encoded.encodings or (), kept, strict=True)
    )
    return fields, cut
