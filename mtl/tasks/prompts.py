"""Prompts: a task's row as a text with a hole, and the words that may fill it."""

import re
import string
from collections.abc import Sequence
from typing import Any, NamedTuple

from mtl.errors import UserError
from mtl.tasks import Prompt, Task

# In LM-BFF's notation a word that begins so is a token as it stands; every other word follows a
# space.
BARE = ("<", "[", ".", ",")


class Piece(NamedTuple):
    """A part of a template.

    Attributes:
        kind: `text` (a column), `literal`, `mask`, `first` (the token that begins a row) or
            `separator`.
        literal: What a literal says.
        column: Place of a text's column among the task's.
        space: Whether a space stands before a text.
        lower: Whether a text's first letter becomes a small one.
        drop: Whether a text loses its last character.
        segment: Whether what follows a separator belongs to the next segment.
        upper: Whether a text's first letter becomes a capital.
    """

    kind: str
    literal: str = ""
    column: int = 0
    space: bool = False
    lower: bool = False
    drop: bool = False
    segment: bool = False
    upper: bool = False


def pieces(task: Task) -> list[Piece]:
    """A task's template in parts, from either notation.

    Plain: columns and the mask in braces, `{premise-}? {mask}, {hypothesis:lower}`; `-` drops a
    last punctuation mark, `:lower` makes the first letter small. LM-BFF's:
    `*cls**sent-_0*?*mask*,*+sentl_1**sep+*`.

    Source: Gao et al. 2021 (LM-BFF), its release; specification A.2 and A.4.

    Raises:
        UserError: If the task has no prompt, or its template cannot be read.
    """
    if task.prompt is None:
        raise UserError(
            f"task {task.name!r} has no prompt; add `prompt: {{template: ..., words: ...}}` to "
            "its file"
        )
    if task.prompt.template.startswith("*"):
        return _starred(task, task.prompt)
    return _plain(task, task.prompt)


def _plain(task: Task, prompt: Prompt) -> list[Piece]:
    found = [Piece("first")]
    before = ""
    for literal, field in re.findall(r"([^{]*)(?:\{([^}]*)\})?", prompt.template):
        before = literal
        if not field:
            if before:
                found.append(Piece("literal", before))
            continue
        # A space in front of the mask is the label word's own; one in front of a text belongs to
        # the text.
        if kept := before.rstrip(" "):
            found.append(Piece("literal", kept))
        if field == "mask":
            found.append(Piece("mask"))
            continue
        name, _, change = field.partition(":")
        column = task.texts.index(name.removesuffix("-"))
        found.append(
            Piece("text", "", column, before.endswith(" "), change == "lower", name.endswith("-"))
        )
    return [*found, Piece("separator", segment=True)]


def _starred(task: Task, prompt: Prompt) -> list[Piece]:
    found, where = [], f"task {task.name!r}: prompt.template"
    for part in filter(None, prompt.template.split("*")):
        if part in ("cls", "mask"):
            found.append(Piece("first" if part == "cls" else part))
        elif part in ("sep", "sep+"):
            found.append(Piece("separator", segment=part == "sep+"))
        elif text := re.fullmatch(r"(\+?)sent([lu]?)(-?)_(\d)", part):
            column = int(text[4])
            if column >= len(task.texts):
                raise UserError(
                    f"task {task.name!r}: prompt.template: {part!r}: there are the texts "
                    f"{task.texts}, counted from 0"
                )
            found.append(
                Piece(
                    "text",
                    "",
                    column,
                    bool(text[1]),
                    text[2] == "l",
                    bool(text[3]),
                    upper=text[2] == "u",
                )
            )
        elif re.fullmatch(r"\+?sent.*_\d|label.*_\d", part):
            raise UserError(
                f"{where}: {part!r} is not offered; there are sent, sentl, sentu, sent- and +"
            )
        else:
            found.append(Piece("literal", part.replace("_", " ")))
    if [piece.kind for piece in found].count("mask") != 1:
        raise UserError(f"{where} {prompt.template!r}: write *mask* exactly once")
    return found


def filled(
    task: Task, parts: Sequence[Piece], texts: Sequence[str], tokenizer: Any, length: int
) -> tuple[list[int], list[int], int, bool]:
    """A row's token ids, segments, the mask's place, and whether a text was cut.

    Texts are cut to their own limits, and where the row is still too long, the longest first; the
    template never is.

    Args:
        task: The task.
        parts: Its template.
        texts: The row's texts.
        tokenizer: The backbone's tokenizer.
        length: Longest row in tokens.

    Raises:
        UserError: If the template alone is longer.
    """
    assert task.prompt is not None
    encoded = [_ids(task.prompt, part, texts, tokenizer) for part in parts]
    cut = False
    for place, part in enumerate(parts):
        limit = task.prompt.limits.get(task.texts[part.column]) if part.kind == "text" else None
        if limit is not None and len(encoded[place]) > limit:
            encoded[place], cut = encoded[place][:limit], True
    over = sum(map(len, encoded)) - length
    rooms = [place for place, part in enumerate(parts) if part.kind == "text"]
    while over > 0:
        longest = max(rooms, key=lambda place: len(encoded[place]), default=None)
        if longest is None or not encoded[longest]:
            raise UserError(
                f"task {task.name!r}: its template alone has more than {length} tokens; raise "
                "--data.max_length"
            )
        others = max((len(encoded[place]) for place in rooms if place != longest), default=0)
        spared = min(over, max(1, len(encoded[longest]) - others))
        encoded[longest], over, cut = encoded[longest][:-spared], over - spared, True
    ids: list[int] = []
    segments: list[int] = []
    mask, segment = -1, 0
    for part, own in zip(parts, encoded, strict=True):
        if part.kind == "mask":
            mask = len(ids)
        ids += own
        segments += [segment] * len(own)
        segment += part.segment
    return ids, segments, mask, cut


def _ids(prompt: Prompt, part: Piece, texts: Sequence[str], tokenizer: Any) -> list[int]:
    special = {
        "first": tokenizer.cls_token_id,
        "separator": tokenizer.sep_token_id,
        "mask": tokenizer.mask_token_id,
    }
    if part.kind in special:
        return [special[part.kind]]
    if part.kind == "literal":
        if len(part.literal) == 1:  # the bare token, as LM-BFF has it
            return [tokenizer.convert_tokens_to_ids(part.literal)]
        return _encoded(tokenizer, part.literal)
    text = texts[part.column]
    if part.drop and (prompt.exact or text[-1:] in string.punctuation):
        text = text[:-1]
    if part.lower:
        text = text[:1].lower() + text[1:]
    if part.upper:
        text = text[:1].upper() + text[1:]
    return _encoded(tokenizer, f" {text}" if part.space else text)


def _encoded(tokenizer: Any, text: str) -> list[int]:
    # A text that spells `[MASK]` is a text: it gives no second mask.
    options = {
        "add_special_tokens": False,
        "return_attention_mask": False,
        "split_special_tokens": True,
        "verbose": False,
    }
    return list(tokenizer(text, **options)["input_ids"])


def word_ids(task: Task, tokenizer: Any) -> list[int]:
    """The token that stands for each class, in the order of the classes; for a regression, of the lowest and the highest value.

    Raises:
        UserError: If a word is not one token; the message shows its pieces.
    """
    assert task.prompt is not None
    found, where = [], f"task {task.name!r}: prompt.words:"
    for name in task.classes or ("low", "high"):
        word = task.prompt.words[name]
        ids = _encoded(tokenizer, word if word.startswith(BARE) else f" {word}")
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            shown = tokenizer.convert_ids_to_tokens(ids)
            raise UserError(
                f"task {task.name!r}: prompt.words: {word!r} is not one token of this backbone "
                f"but {shown}; choose another"
            )
        found += ids
    if len(set(found)) < len(found):
        raise UserError(
            f"{where} two classes have the same token: {list(task.prompt.words.values())}"
        )
    return found
