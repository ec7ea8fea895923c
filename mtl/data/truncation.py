"""Which tokens of an example remain if it has more than the maximum length."""

from collections.abc import Sequence

from mtl.tasks.task import Truncation

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
