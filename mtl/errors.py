"""Words for people: errors that name the file, the row, the value and the remedy; nearest-name suggestions."""

import difflib
import re
from collections.abc import Iterable


class UserError(Exception):
    """The user's tasks or rows cannot be used. The message names the file, the row, the value and the remedy."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A sentence that suggests the name nearest to a mistyped one, case ignored; empty where none is near.

    >>> did_you_mean("MutliHead", ["MultiHead", "Joint"])
    " Did you mean 'MultiHead'?"
    >>> did_you_mean("xyz", ["MultiHead"])
    ''
    """
    by_lower = {known.lower(): known for known in sorted(names, reverse=True)}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.65)
    return f" Did you mean {by_lower[found[0]]!r}?" if found else ""


def reject_unknown(where: str, noun: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raises a `UserError` for the first name that is not known.

    Args:
        where: The option or field, such as `losses`.
        noun: What the names are names of, such as `task`.
        names: The names given.
        known: The names that exist.

    >>> reject_unknown("losses", "task", ["colla"], ["cola", "sst2"])
    Traceback (most recent call last):
    mtl.errors.UserError: losses: unknown task 'colla'. Choose from: cola, sst2. Did you mean 'cola'?
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise UserError(
                f"{where}: unknown {noun} {name!r}. Choose from: {', '.join(known)}.{did_you_mean(name, known)}"
            )


def shorten(value: object, length: int = 60) -> str:
    """The value as it can be shown inside a sentence: quoted, and cut in the middle where it is long."""
    shown = repr(value)
    return shown if len(shown) <= length else f"{shown[: length // 2]} ... {shown[-length // 3 :]}"


def explain_parse_error(message: str, names: Iterable[str], classes: Iterable[str] = ()) -> str:
    """A parser's message, shorter, and with the names that may have been meant.

    Args:
        message: What the parser says.
        names: Options and fields that exist, such as `--trainer.max_epochs` or `lr`.
        classes: Names of classes that may be given.

    >>> explain_parse_error("Option 'lrr' is not accepted", ["lr", "warmup"])
    "there is no option 'lrr'. Did you mean 'lr'?"
    >>> explain_parse_error("Expected a typing.Literal['cls', 'mean']. Got value: maen", [])
    "expected 'cls' or 'mean', got 'maen'. Did you mean 'mean'?"
    """
    unknown = r"unrecognized arguments: (--[^\s=]+)|[Oo]ption '([\w.]+)' is not accepted|does not accept option '([\w.]+)'"
    if found := re.search(unknown, message):
        word = found[1] or found[2] or found[3]
        return f"there is no option {word!r}.{did_you_mean(word, names)}"
    if found := re.search(r"Expected a dot import path string: (\w+)", message):
        word, known = found[1], ", ".join(classes)
        return f"there is no class {word!r}.{did_you_mean(word, classes)} Known are {known}; others by their import path."
    no_class = r"class_path '([\w.]+)':\s+(?:module '[\w.]+' has no attribute '(\w+)'|No module named '([\w.]+)')"
    if found := re.search(no_class, message):
        path, missing, module = found[1], found[2], found[3]
        if missing:
            return f"there is no class {path!r}.{did_you_mean(missing, classes)}"
        where = "One in the working directory is found by `python -m mtl`, an installed one by `mtl` too."
        return f"there is no class {path!r}: no module {module!r} is found. {where}"
    if found := re.search(
        r"argument subcommand: invalid choice: '([\w-]+)' \(choose from ([^)]+)\)", message
    ):
        word, known = found[1], found[2]
        return f"there is no command {word!r}.{did_you_mean(word, re.findall(r'[a-z]+', known))} Commands are {known}."
    if found := re.search(
        r"(?:key \"([\w.]+)\":\s+)?Expected a typing.Literal\[([^\]]+)\]\. Got value: (\w+)",
        message,
    ):
        key, choices, word = found[1], re.findall(r"'([^']+)'", found[2]), found[3]
        where = f"{key}: " if key else ""
        return f"{where}expected {' or '.join(map(repr, choices))}, got {word!r}.{did_you_mean(word, choices)}"
    if found := re.search(
        r'key "([\w.]+)":\s+Does not validate.*Subtypes: \[(.*?)\]\n.*Given value: (\S+)',
        message,
        re.DOTALL,
    ):
        key, kinds, word = found[1], found[2], found[3]
        choices = re.findall(r"'(\w+)'", kinds)  # names of types, and words of a closed choice
        return f"{key}: expected {' or '.join(choices)}, got {word!r}.{did_you_mean(word, choices)}"
    if 'key "tasks"' in message and "Got value: None" in message:
        return "no tasks: name at least one, such as --tasks+=configs/tasks/sst2.yaml"
    return message.replace("Not of type Task: ", "")
