"""Mistakes in the names and values of a command's words, found with the index of options.

A word is refused only if it is certainly wrong; everything else is left to the full parser.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from mtl.cli.class_options import (
    DEFAULT_CLASSES,
    class_name,
    named_values,
    option_value,
    options_in,
)
from mtl.cli.linked_options import LINKED, check_linked
from mtl.cli.option_index import OptionIndex, Values
from mtl.cli.suggestions import suggest_classes, suggest_options
from mtl.cli.word_values import YAML_WORDS, check_value, expected
from mtl.errors import UserError

# What may follow `--model.` other than an argument of the class.
OF_PARSER = ("class_path", "init_args", "dict_kwargs", "help")
_NAME = re.compile(r"[^\W\d]\w*")
_FILE = re.compile(r"[\w./-]*/[\w.-]+")
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_LIBRARIES = ("mtl.", "torch.", "torchjd.", "lightning.")

Arguments = Mapping[str, Values | None]


class Names(NamedTuple):
    """The names that the words of one command may use.

    Attributes:
        command: The command.
        options: Its options.
        classes: The classes that options accept by their short names.
        own_classes: Whether the command names classes of the user's own, whose modules may define
            further ones.
        arguments: For `model` and `data` the arguments of the chosen class; None if it is unknown.
        of_class: The arguments of every class.
        others: Further options that may have been meant.
        checkpoint: The checkpoint that is named; the parser gets its configuration inline.
    """

    command: str
    options: Arguments
    classes: Mapping[str, Sequence[str]]
    own_classes: bool
    arguments: Mapping[str, Arguments | None]
    of_class: Mapping[str, Arguments]
    others: Sequence[str] = ()
    checkpoint: str = ""

    def spelled(self) -> list[str]:
        """All options, those of method and scheme included."""
        of_classes = [
            f"--{section}.{name}"
            for section, names in self.arguments.items()
            for name in names or ()
        ]
        return [*self.options, *of_classes, *self.others]


def check_words(
    command: str, arguments: Sequence[str], index: OptionIndex, others: Sequence[str] = ()
) -> None:
    """Checks the words of a command that certainly name an option, a class or a value.

    Args:
        command: `fit`, `validate`, `test` or `predict`.
        arguments: Its arguments; `-c` names files.
        index: The names that exist.
        others: Further options that may have been meant.

    Raises:
        UserError: If a name does not exist, or a value is not accepted.
    """
    from mtl.cli.config_keys import check_config

    check_linked(arguments)
    if command not in index.options or {"-h", "--help", "--"} & set(arguments):
        return
    names = names_of(command, arguments, index)._replace(others=others)
    for word, value in options_in(arguments):
        _check_named_class(word, value, names)
    previous = ""
    for word in arguments:
        if not word.startswith("-") and (not previous.startswith("-") or "=" in previous):
            raise UserError(_positional(word))
        if word == "" or (word.startswith("--") and word.endswith("=")):
            _check_empty(word.removesuffix("=") or previous, names)
        previous = "" if not word.startswith("-") else word
    for word, value in options_in(arguments):
        if word in ("-c", "--config"):
            check_config(value, names)
        elif word.startswith("--") and " " not in word:
            check_option(word.removesuffix("+"), value, names)
        elif re.match(r"-[^\W\d]", word):
            raise UserError(_unknown(word, names))


def names_of(command: str, arguments: Sequence[str], index: OptionIndex) -> Names:
    """The names that the words of a command may use."""
    own = any(_is_own_class(value) for value in named_values(arguments))
    resumed = option_value("--ckpt_path", arguments) or ""
    chosen: dict[str, Arguments | None] = {}
    for key, default in DEFAULT_CLASSES.items():
        name = class_name(key, arguments) or (None if resumed else default)
        known = name and ("." not in name or name.startswith("mtl."))
        chosen[key] = index.arguments.get(str(name).rpartition(".")[2]) if known else None
    options = index.options[command]
    names = Names(command, options, index.classes, own, chosen, index.arguments)
    return names._replace(checkpoint=resumed)


def check_option(option: str, value: str, names: Names) -> None:
    """Checks an option and its value.

    Raises:
        UserError: If it does not exist, or does not accept the value.
    """
    spelled = option.replace(".init_args.", ".")
    section, _, rest = spelled.removeprefix("--").partition(".")
    accepted = names.arguments.get(section)
    if section in names.arguments and rest:
        first = rest.partition(".")[0]
        if accepted is not None and first not in (*accepted, *LINKED, *OF_PARSER):
            raise UserError(_unknown(option, names))
        check_value(f"{option} {value}", value, (accepted or {}).get(rest))
    elif spelled in names.options:
        check_value(f"{option} {value}", value, names.options[spelled])
    elif not any(parent in names.options for parent in _parents(spelled)):
        raise UserError(_unknown(option, names))


def _check_named_class(word: str, value: str, names: Names) -> None:
    """Checks the class that a word names; the other options depend on it."""
    option = word.removesuffix("+").replace(".init_args.", ".")
    if option in names.classes:
        check_class(f"{word.removesuffix('+')} {value}", option, value, names)


def _check_empty(option: str, names: Names) -> None:
    """Refuses an empty value of an option that accepts numbers and certain words only."""
    section, _, rest = option.replace(".init_args.", ".").removeprefix("--").partition(".")
    of_class = names.arguments.get(section) or {}
    values = of_class.get(rest) or names.options.get(option.replace(".init_args.", "."))
    if values:
        raise UserError(f"{option} '': expected {expected(values)}")


def check_class(where: str, option: str, value: str, names: Names) -> None:
    """Checks the class that an option or a file names.

    Args:
        where: What the message begins with.
        option: The option, such as `--model.balancer`.
        value: The class.
        names: The names that exist.

    Raises:
        UserError: If there is certainly no such class.
    """
    known = names.classes.get(option, ())
    if known and _PATH.fullmatch(value) and not value.startswith(_LIBRARIES):
        _check_module(where, value)
    name = _NAME.fullmatch(value) and value.lower() not in YAML_WORDS and not names.own_classes
    own = value.startswith("mtl.") and value.rpartition(".")[2] not in known
    if not known or not (name or own or _FILE.fullmatch(value)):
        return
    if value not in known and not Path(value).is_file():
        raise UserError(
            f"{where}: there is no such class.{suggest_classes(option, value, known)} Give a class "
            "of your own by its import path, such as my_layers.MyLayers."
        )


def _is_own_class(value: str) -> bool:
    """Whether a value is the import path of a class that may be the user's own."""
    path = _PATH.fullmatch(value) and not value.startswith(_LIBRARIES)
    return bool(path) and not Path(value).exists() and _module_exists(value)


def _module_exists(path: str) -> bool:
    """Whether the top-level module of an import path exists; imports nothing."""
    top = path.partition(".")[0]
    return top in sys.modules or find_spec(top) is not None


def _check_module(where: str, path: str) -> None:
    if Path(path).exists() or _module_exists(path):
        return
    top = path.partition(".")[0]
    raise UserError(
        f"{where}: there is no module {top!r}. Install its package; a module in the working "
        "directory is found by `python -m mtl`, not by `mtl`."
    )


def _parents(option: str) -> Iterator[str]:
    """The options whose class an argument such as `--trainer.callbacks.patience` may belong to."""
    for match in re.finditer(r"\.", option):
        if "." in option[: match.start()] or option.startswith("--tasks."):
            yield option[: match.start()]


def _unknown(option: str, names: Names) -> str:
    hint = suggest_options(option, names.spelled())
    listed = "" if hint else f" `mtl {names.command} --help` lists the options."
    return f"unknown option {option}.{hint}{listed}"


def _positional(word: str) -> str:
    path = Path(word)
    remedy = "every value needs an option before it, such as --out or --tasks+="
    if path.suffix in (".yaml", ".yml"):
        remedy = f"give a task with --tasks+={word}, a configuration with -c {word}"
    elif path.is_dir():
        remedy = f"give a run with --ckpt_path {word}, a folder to write with --out {word}"
    return f"{word}: no option precedes this value; {remedy}"
