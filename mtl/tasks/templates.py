"""Templates: the text of a prompt with places for the example's texts and the mask."""

import re
from typing import Literal, NamedTuple

from mtl.errors import UserError
from mtl.tasks.fields import Prompt
from mtl.tasks.task import Task

# A text in LM-BFF's notation, such as `+sentl-_1`.
STARRED_TEXT = re.compile(r"(?P<space>\+?)sent(?P<case>[lu]?)(?P<drop>-?)_(?P<column>\d)")


class TemplatePart(NamedTuple):
    """A part of a template.

    Attributes:
        kind: `text` (a column), `literal`, `mask`, `first` (the first special token) or
            `separator`.
        literal: The text of a literal.
        column: Index of a text's column among the task's texts.
        space: Whether a space precedes a text.
        lower: Whether a text's first letter becomes lower case.
        drop: Whether a text loses its last character.
        segment: Whether a new segment starts after a separator.
        upper: Whether a text's first letter becomes upper case.
    """

    kind: Literal["text", "literal", "mask", "first", "separator"]
    literal: str = ""
    column: int = 0
    space: bool = False
    lower: bool = False
    drop: bool = False
    segment: bool = False
    upper: bool = False


def parse_template(task: Task) -> list[TemplatePart]:
    """Parses a task's template, in either notation.

    The plain notation has columns and the mask in braces, `{premise-}? {mask}, {hypothesis:lower}`;
    `-` drops a final punctuation mark, `:lower` makes the first letter lower case. LM-BFF's
    notation is `*cls**sent-_0*?*mask*,*+sentl_1**sep+*`.

    Source: Gao et al. 2021 (LM-BFF), its release; specification A.2 and A.4.

    Raises:
        UserError: If the task has no prompt, or its template cannot be parsed.
    """
    prompt = task_prompt(task)
    if prompt.template.startswith("*"):
        return _parse_starred(task, prompt.template)
    return _parse_plain(task, prompt.template)


def task_prompt(task: Task) -> Prompt:
    """The task's prompt.

    Raises:
        UserError: If it has none.
    """
    if task.prompt is None:
        raise UserError(
            f"task {task.name!r} has no prompt; add `prompt: {{template: ..., words: ...}}` to its "
            "file"
        )
    return task.prompt


def _parse_plain(task: Task, template: str) -> list[TemplatePart]:
    parts = [TemplatePart("first")]
    for literal, field in re.findall(r"([^{]*)(?:\{([^}]*)\})?", template):
        # A space before the mask belongs to the label word, a space before a text to the text.
        if text := literal.rstrip(" ") if field else literal:
            parts.append(TemplatePart("literal", text))
        if field == "mask":
            parts.append(TemplatePart("mask"))
        elif field:
            name, _, modifier = field.partition(":")
            parts.append(
                TemplatePart(
                    "text",
                    column=task.texts.index(name.removesuffix("-")),
                    space=literal.endswith(" "),
                    lower=modifier == "lower",
                    drop=name.endswith("-"),
                )
            )
    return [*parts, TemplatePart("separator", segment=True)]


def _parse_starred(task: Task, template: str) -> list[TemplatePart]:
    where = f"task {task.name!r}: prompt.template"
    parts = [_starred_part(task, item, where) for item in filter(None, template.split("*"))]
    if [part.kind for part in parts].count("mask") != 1:
        raise UserError(f"{where} {template!r}: write *mask* exactly once")
    return parts


def _starred_part(task: Task, item: str, where: str) -> TemplatePart:
    if item == "cls":
        return TemplatePart("first")
    if item == "mask":
        return TemplatePart("mask")
    if item in ("sep", "sep+"):
        return TemplatePart("separator", segment=item == "sep+")
    if match := STARRED_TEXT.fullmatch(item):
        column = int(match["column"])
        if column >= len(task.texts):
            raise UserError(
                f"{where}: {item!r}: there is no text {column}; the texts are {task.texts}, "
                "counted from 0"
            )
        return TemplatePart(
            "text",
            column=column,
            space=bool(match["space"]),
            lower=match["case"] == "l",
            drop=bool(match["drop"]),
            upper=match["case"] == "u",
        )
    if re.fullmatch(r"\+?sent.*_\d|label.*_\d", item):
        raise UserError(f"{where}: unsupported: {item!r}. Supported: sent, sentl, sentu, sent-, +")
    return TemplatePart("literal", item.replace("_", " "))
