"""Encoding of texts whose words are labelled: which token belongs to which word, and windows."""

from collections.abc import Sequence
from typing import Any, cast

from transformers import PreTrainedTokenizerFast

from mtl.data.truncation import kept_positions
from mtl.errors import UserError
from mtl.tasks import Task, TokenLabels


def encode_words(
    tokenizer: PreTrainedTokenizerFast,
    task: Task,
    kind: TokenLabels,
    texts: Sequence[str],
    max_length: int,
) -> tuple[dict[str, list[Any]], int]:
    """Encodes texts.

    Args:
        tokenizer: The backbone's tokenizer.
        task: The task.
        kind: Its kind.
        texts: The texts.
        max_length: Maximum number of tokens.

    Returns:
        The fields of the tokenizer, `words` (see `TokenLabels.token_labels`) and `example` (the
        index of the text), with one row per window; and the number of truncated texts.

    Raises:
        UserError: If windows would have no tokens of their own.
    """
    encoded = tokenizer(list(texts), return_attention_mask=False, verbose=False)
    fields: dict[str, list[Any]] = {name: [] for name in (*encoded, "words", "example")}
    truncated = 0
    for index, item in enumerate(encoded.encodings or ()):
        words = word_numbers(item.offsets, item.sequence_ids, kind.words(texts[index]))
        rows = [kept_positions(item.sequence_ids, max_length, task.truncation)]
        if len(rows[0]) < len(item.ids) and kind.overlap is None:
            truncated += 1
        elif len(rows[0]) < len(item.ids):
            rows = windows(item.sequence_ids, max_length, cast(int, kind.overlap), task.name)
        for number, positions in enumerate(rows):
            for name in encoded:
                ids = cast(list[Any], encoded[name])[index]
                fields[name].append([ids[position] for position in positions])
            owned = owners(rows, words) if len(rows) > 1 else {}
            fields["words"].append(
                [
                    words[position] if owned.get(abs(words[position]), number) == number else 0
                    for position in positions
                ]
            )
            fields["example"].append(index)
    return fields, truncated


def word_numbers(
    offsets: Sequence[tuple[int, int]],
    sequence_ids: Sequence[int | None],
    words: Sequence[tuple[int, int]],
) -> list[int]:
    """The number of each token's word, counted from 1; negative after its first token.

    Args:
        offsets: Start and end of each token in the text.
        sequence_ids: None for special tokens, whose number is 0.
        words: Start and end of each word in the text.
    """
    numbers, word, last = [], 0, 0
    for (start, end), sequence in zip(offsets, sequence_ids, strict=True):
        while word < len(words) and words[word][1] <= start:
            word += 1
        if sequence is None or word == len(words) or end <= words[word][0]:
            numbers.append(0)
            continue
        numbers.append(-(word + 1) if last == word + 1 else word + 1)
        last = word + 1
    return numbers


def windows(
    sequence_ids: Sequence[int | None], max_length: int, overlap: int, task: str
) -> list[list[int]]:
    """The positions of the tokens of each window, special tokens included.

    Raises:
        UserError: If windows would have no tokens of their own.
    """
    text = [position for position, each in enumerate(sequence_ids) if each is not None]
    before = [position for position in range(len(sequence_ids)) if position < text[0]]
    after = [position for position in range(len(sequence_ids)) if position > text[-1]]
    size = max_length - len(before) - len(after)
    if size <= overlap:
        raise UserError(
            f"task {task!r}: window_overlap {overlap}: windows of {max_length} tokens have {size} "
            f"tokens of the text; give an overlap below {size}, or a maximum length of "
            f"{max_length - size + overlap + 1} or more"
        )
    starts = range(0, max(1, len(text) - overlap), size - overlap)
    return [[*before, *text[start : start + size], *after] for start in starts]


def owners(rows: Sequence[Sequence[int]], words: Sequence[int]) -> dict[int, int]:
    """The window in which each word is predicted: where its first token has most context."""
    best: dict[int, tuple[int, int]] = {}
    for number, positions in enumerate(rows):
        for index, position in enumerate(positions):
            if (word := words[position]) > 0:
                context = min(index, len(positions) - 1 - index)
                if word not in best or context > best[word][0]:
                    best[word] = context, number
    return {word: number for word, (_, number) in best.items()}
