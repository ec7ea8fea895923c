"""Errors that a user can fix, and how their messages are written."""

import difflib
from collections.abc import Iterable, Iterator, Sequence

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
