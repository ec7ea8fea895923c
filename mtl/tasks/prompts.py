"""Prompts: an example as a text with a mask, and the label words that may fill the mask.

Tokenizers of causal models have no mask token. Their prompt ends where the mask would be, and the
label word is the next token.
"""

import string
from collections.abc import Sequence
from typing import Any

from mtl.errors import UserError
from mtl.tasks.fields import Prompt
from mtl.tasks.task import Task
from mtl.tasks.templates import TemplatePart, task_prompt

# As in LM-BFF, label words that start with one of these are tokens as they stand; all others get a
# leading space.
NO_LEADING_SPACE = ("<", "[", ".", ",")


def fill_template(
    task: Task, parts: Sequence[TemplatePart], texts: Sequence[str], tokenizer: Any, length: int
) -> tuple[list[int], list[int], int, bool]:
    """Fills an example's texts into a template.

    Texts are cut to their own limits; if the example is still too long, the longest text is cut
    first. The template itself is never cut, so the mask and the final separator always remain.
    LM-BFF's release cuts the tail of the whole prompt instead, which loses the final separator, and
    fails if it loses the mask.

    Args:
        task: The task.
        parts: Its template.
        texts: The example's texts.
        tokenizer: The backbone's tokenizer.
        length: Maximum length of an example in tokens.

    Returns:
        Token ids, segment ids, the position whose state predicts the label word, and whether a text
        was cut. The position is that of the mask, or of the last token if there is no mask token.

    Raises:
        UserError: If the template alone is longer than `length`, or there is no mask token and
            something that cannot be dropped follows the mask.
    """
    prompt = task_prompt(task)
    if tokenizer.mask_token_id is None:
        parts = _until_mask(task, parts)
    encoded = [_part_ids(prompt, part, texts, tokenizer) for part in parts]
    limits = [
        prompt.limits.get(task.texts[part.column]) if part.kind == "text" else None
        for part in parts
    ]
    # `ids[:None]` is all of them.
    limited = [ids[:limit] for ids, limit in zip(encoded, limits, strict=True)]
    shortened = _truncate(task, parts, limited, length)
    ids: list[int] = []
    segments: list[int] = []
    mask, segment = sum(map(len, shortened)) - 1, 0
    for part, part_ids in zip(parts, shortened, strict=True):
        if part.kind == "mask":
            mask = len(ids)
        ids += part_ids
        segments += [segment] * len(part_ids)
        segment += part.segment
    return ids, segments, mask, sum(map(len, encoded)) > len(ids)


def _until_mask(task: Task, parts: Sequence[TemplatePart]) -> list[TemplatePart]:
    """The parts before the mask; punctuation and separators that follow it are dropped."""
    mask = next(index for index, part in enumerate(parts) if part.kind == "mask")
    before, after = list(parts[:mask]), parts[mask + 1 :]
    dropped = all(
        part.kind == "separator" or not any(map(str.isalnum, part.literal or "text"))
        for part in after
    )
    if not dropped or all(part.kind == "first" for part in before):
        raise UserError(
            f"task {task.name!r}: prompt.template: a causal model predicts the word that follows a "
            "text; put {mask} at the end of the template, behind all columns"
        )
    return before


def shortest_prompt(task: Task, parts: Sequence[TemplatePart], tokenizer: Any) -> int:
    """The length of a template in tokens with one token for each of its texts."""
    prompt = task_prompt(task)
    if tokenizer.mask_token_id is None:
        parts = _until_mask(task, parts)
    texts = [""] * len(task.texts)
    return sum(
        1 if part.kind == "text" else len(_part_ids(prompt, part, texts, tokenizer))
        for part in parts
    )


def _truncate(
    task: Task, parts: Sequence[TemplatePart], encoded: Sequence[list[int]], length: int
) -> list[list[int]]:
    """Cuts the longest text until all parts together have at most `length` tokens."""
    encoded = list(encoded)
    excess = sum(map(len, encoded)) - length
    texts = [index for index, part in enumerate(parts) if part.kind == "text"]
    while excess > 0:
        longest = max(texts, key=lambda index: len(encoded[index]), default=None)
        if longest is None or not encoded[longest]:
            raise UserError(
                f"task {task.name!r}: the template alone has more than {length} tokens; raise "
                "--data.max_length"
            )
        # Down to the second longest, then one token of each in turn.
        second = max((len(encoded[index]) for index in texts if index != longest), default=0)
        removed = min(excess, max(1, len(encoded[longest]) - second))
        encoded[longest] = encoded[longest][:-removed]
        excess -= removed
    return encoded


def _part_ids(
    prompt: Prompt, part: TemplatePart, texts: Sequence[str], tokenizer: Any
) -> list[int]:
    special = {
        "first": (tokenizer.cls_token_id, tokenizer.bos_token_id),
        "separator": (tokenizer.sep_token_id, tokenizer.eos_token_id),
        "mask": (tokenizer.mask_token_id,),
    }
    if part.kind in special:  # decoders may have no token for the start
        return [token for token in special[part.kind] if token is not None][:1]
    if part.kind == "literal":
        if len(part.literal) == 1:  # a single character is a token as it stands, as in LM-BFF
            return [tokenizer.convert_tokens_to_ids(part.literal)]
        return _token_ids(tokenizer, part.literal)
    text = texts[part.column]
    if part.drop and prompt.exact:
        text = text[:-1]
    elif part.drop and (stripped := text.rstrip())[-1:] in string.punctuation:
        text = stripped[:-1]
    if part.lower:
        text = text[:1].lower() + text[1:]
    if part.upper:
        text = text[:1].upper() + text[1:]
    return _token_ids(tokenizer, f" {text}" if part.space else text)


def _token_ids(tokenizer: Any, text: str) -> list[int]:
    # `split_special_tokens`: "[MASK]" in a text is ordinary text, not a second mask.
    options = {
        "add_special_tokens": False,
        "return_attention_mask": False,
        "split_special_tokens": True,
        "verbose": False,
    }
    return list(tokenizer(text, **options)["input_ids"])


def label_word_ids(task: Task, tokenizer: Any) -> list[int]:
    """The token ids of the label words, in the order of `task.kind.prompt_words`.

    Raises:
        UserError: If the task has no prompt, a label word is not one token, or two label words are
            the same token.
    """
    prompt, where = task_prompt(task), f"task {task.name!r}: prompt.words"
    label_ids: list[int] = []
    for name in task.kind.prompt_words:
        word = prompt.words[name]
        ids = _token_ids(tokenizer, word if word.startswith(NO_LEADING_SPACE) else f" {word}")
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            tokens = tokenizer.convert_ids_to_tokens(ids)
            raise UserError(
                f"{where}: {word!r} is not one token of this backbone but {tokens}; choose another "
                "word"
            )
        label_ids += ids
    if len(set(label_ids)) < len(label_ids):
        raise UserError(
            f"{where}: two classes have the same token: {list(prompt.words.values())}; choose "
            "different words"
        )
    return label_ids
