"""Errors that a user can fix, and how their messages are written."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

NO_TASKS = "no tasks: name at least one, such as --tasks+=tasks/sst2"


class UserError(Exception):
    """Something that the user can fix: an option, a task file or a data file.

    The message names the file, row or option and the value at fault, then what to do.
    """


def format_error(message: object) -> str:
    """A refusal as all commands print it: where, what is wrong, and what to do.

    >>> format_error("run: no such folder; give a run's folder")
    "mtl: error: run: no such folder; give a run's folder"
    """
    return f"mtl: error: {str(message).strip()}"


def error_causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that led to it, the last one first.

    For a value that fits no type of a union, jsonargparse names the exception of the first type
    as the cause; those of the other types are variables of the function that raised it.
    """
    while error:
        yield error
        trace = error.__traceback__
        while trace and trace.tb_next:
            trace = trace.tb_next
        if trace and trace.tb_frame.f_code.co_name == "raise_union_unexpected_value":
            for each in trace.tb_frame.f_locals["exceptions"]:
                yield from error_causes(each)
            return
        error = error.__cause__ or error.__context__


def list_words(words: Sequence[str], last: str = "and") -> str:
    """Words as they are listed in a sentence.

    >>> list_words(["a", "b", "c"], "or")
    'a, b or c'
    """
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A sentence that suggests the nearest known name, ignoring case; empty if none is near.

    >>> did_you_mean("MutliHead", ["MultiHead", "Joint"])
    " Did you mean 'MultiHead'?"
    >>> did_you_mean("xyz", ["MultiHead"])
    ''
    """
    by_lower = {known.lower(): known for known in sorted(names, reverse=True)}
    nearest = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.65)
    return f" Did you mean {by_lower[nearest[0]]!r}?" if nearest else ""


def unknown_name(noun: str, name: str, known: Iterable[str], choices: bool = True) -> str:
    """The message for a name that does not exist.

    Args:
        noun: What the name stands for, such as `task`.
        name: The name given.
        known: The names that exist.
        choices: Whether to list the names that exist; they are only used for the suggestion
            otherwise.

    >>> unknown_name("task", "colla", ["cola", "sst2"])
    "unknown task 'colla'. Choose from: cola, sst2. Did you mean 'cola'?"
    >>> unknown_name("option", "lrr", ["lr", "warmup"], choices=False)
    "unknown option 'lrr'. Did you mean 'lr'?"
    """
    known = list(known)
    listed = f" Choose from: {', '.join(known)}." if choices and known else ""
    return f"unknown {noun} {name!r}.{listed}{did_you_mean(name, known)}"


def reject_unknown(where: str, noun: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raises a `UserError` for the first name that does not exist.

    Args:
        where: The option or field, such as `losses`.
        noun: What the names stand for, such as `task`.
        names: The names given.
        known: The names that exist.

    >>> reject_unknown("losses", "task", ["colla"], ["cola"])
    Traceback (most recent call last):
    mtl.errors.UserError: losses: unknown task 'colla'. Choose from: cola. Did you mean 'cola'?
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise UserError(f"{where}: {unknown_name(noun, name, known)}")


def shorten(value: object, length: int = 60) -> str:
    """The value's `repr`, with the middle cut out if it is long."""
    shown = repr(value)
    return shown if len(shown) <= length else f"{shown[: length // 2]} ... {shown[-length // 3 :]}"


class _Known(NamedTuple):
    """The names that a user may have meant."""

    options: Sequence[str]
    classes: Sequence[str]


def explain_parse_error(message: str, names: Iterable[str], classes: Iterable[str] = ()) -> str:
    """Rewrites a message of jsonargparse: shorter, and with the nearest known name.

    Args:
        message: The parser's message.
        names: Options and fields that exist, such as `--trainer.max_epochs` or `lr`.
        classes: Names of classes that may be given.

    >>> explain_parse_error("Option 'lrr' is not accepted", ["lr", "warmup"])
    "unknown option 'lrr'. Did you mean 'lr'?"
    >>> explain_parse_error("Expected a typing.Literal['cls', 'mean']. Got value: maen", [])
    "expected 'cls' or 'mean', got 'maen'. Did you mean 'mean'?"
    """
    known = _Known(list(names), list(classes))
    for pattern, explain in _PARSE_ERRORS:
        if match := pattern.search(message):
            return explain(match, known)
    message = message.replace("Not of type Task: ", "")
    return _PARSER_KEY.sub(r"\1: ", message, count=1)


def _unknown_option(match: re.Match[str], known: _Known) -> str:
    name = next(group for group in match.groups() if group)
    return unknown_name("option", name, known.options, choices=False)


def _unknown_class(match: re.Match[str], known: _Known) -> str:
    message = unknown_name("class", match["name"], known.classes)
    return f"{message} Give any other class by its import path."


def _missing_attribute(match: re.Match[str], known: _Known) -> str:
    return f"unknown class {match['path']!r}.{did_you_mean(match['attribute'], known.classes)}"


def _missing_module(match: re.Match[str], known: _Known) -> str:
    return (
        f"unknown class {match['path']!r}: there is no module {match['module']!r}. `python -m "
        "mtl` also finds modules in the "
        "working directory; `mtl` finds installed modules only."
    )


def _unknown_command(match: re.Match[str], known: _Known) -> str:
    return unknown_name("command", match["name"], re.findall(r"[\w-]+", match["commands"]))


def _not_a_choice(match: re.Match[str], known: _Known) -> str:
    return _expected(match["key"], re.findall(r"'([^']+)'", match["choices"]), match["value"], repr)


def _no_matching_type(match: re.Match[str], known: _Known) -> str:
    # The subtypes are names of types and the values of literals.
    types = re.sub(r"typing\.Annotated\[(\w+), [^\]]*\]", r"'\1'", match["types"])
    return _expected(match["key"], re.findall(r"'(\w+)'", types), match["value"], str)


def _expected(
    key: str | None, choices: Sequence[str], value: str, show: Callable[[str], str]
) -> str:
    where = f"{key}: " if key else ""
    listed = " or ".join(map(show, choices))
    return f"{where}expected {listed}, got {value!r}.{did_you_mean(value, choices)}"


def _no_tasks(match: re.Match[str], known: _Known) -> str:
    return NO_TASKS


_PARSER_KEY = re.compile(r'^(?:Problem with given class_path.*?)?Parser key "([\w.]+)":\s*')
# Messages of jsonargparse and argparse, and the function that rewrites each; the first pattern that
# matches counts.
_PARSE_ERRORS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], _Known], str]], ...] = tuple(
    (re.compile(pattern, re.DOTALL), explain)
    for pattern, explain in (
        (
            r"unrecognized arguments: (--[^\s=]+)|[Oo]ption '([\w.]+)' is not accepted"
            r"|does not accept option '([\w.]+)'",
            _unknown_option,
        ),
        (r"Expected a dot import path string: (?P<name>\w+)", _unknown_class),
        (
            r"class_path '(?P<path>[\w.]+)':\s+module '[\w.]+' has no attribute "
            r"'(?P<attribute>\w+)'",
            _missing_attribute,
        ),
        (
            r"class_path '(?P<path>[\w.]+)':\s+No module named '(?P<module>[\w.]+)'",
            _missing_module,
        ),
        (
            r"argument subcommand: invalid choice: '(?P<name>[\w-]+)' \(choose from "
            r"(?P<commands>[^)]+)\)",
            _unknown_command,
        ),
        (
            r"(?:key \"(?P<key>[\w.]+)\":\s+)?Expected a typing.Literal\[(?P<choices>[^\]]+)\]\. "
            r"Got value: (?P<value>\w+)",
            _not_a_choice,
        ),
        (
            r'key "(?P<key>[\w.]+)":\s+Does not validate.*Subtypes: \[(?P<types>.*?)\]\s.*'
            r"Given value: (?P<value>\S+)",
            _no_matching_type,
        ),
        (r'key "tasks".*Got value: None', _no_tasks),
    )
)
