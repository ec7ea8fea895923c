"""Collects the names of options, classes and values from the parsers."""

import types
from collections.abc import Iterator, Mapping
from inspect import isclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import torch
from jsonargparse import ArgumentParser

from mtl.bounds import Bounds
from mtl.cli.linked_options import LINKED
from mtl.cli.option_index import OptionIndex, Values
from mtl.cli.parser import RUN_BOUNDS
from mtl.data import MultiTaskDataModule
from mtl.methods import MultiTaskModule

_NUMBERS = {int: "int", float: "float"}
_WORDS = {bool: ["true", "false"], type(None): ["null"]}


def build_index(parsers: Mapping[str, Any]) -> OptionIndex:
    """Collects the names that the parsers accept.

    Args:
        parsers: The parsers of the commands.
    """
    types_of = {name: _types(parser) for name, parser in parsers.items()}
    options = {
        name: {option: _values(hint) for option, hint in hints.items()}
        for name, hints in types_of.items()
    }
    for of_command in options.values():
        for name, bounds in RUN_BOUNDS.items():
            if values := of_command.get(f"--{name}"):
                of_command[f"--{name}"] = values._replace(bounds=list(bounds))
    classes: dict[str, list[str]] = {}
    for hints in types_of.values():
        classes |= {option: _classes(hint) for option, hint in hints.items()}
    arguments = {}
    for option, base in (("--model", MultiTaskModule), ("--data", MultiTaskDataModule)):
        classes[option] = [each.__name__ for each in _subclasses(base)]
        for cls in _subclasses(base):
            hints = _constructor_types(cls)
            arguments[cls.__name__] = {name: _values(hint) for name, hint in hints.items()}
            classes |= {f"{option}.{name}": _classes(hint) for name, hint in hints.items()}
    return OptionIndex(
        options, {key: names for key, names in classes.items() if names}, arguments, {}
    )


def _types(parser: Any) -> dict[str, Any]:
    """The type of each option of a parser."""
    return {
        option.removesuffix("+"): getattr(action, "_typehint", None)
        for option, action in parser._option_string_actions.items()
        if option.startswith("--")
    }


def _constructor_types(cls: type[Any]) -> dict[str, Any]:
    """The type of each argument of a class that is an option."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, fail_untyped=False, skip=set(LINKED))
    return {
        option.removeprefix("--"): hint
        for option, hint in _types(parser).items()
        if option != "--help" and not option.endswith(".help")
    }


def _members(hint: Any) -> Iterator[Any]:
    """The members of a union, and the parts of an annotated type."""
    if get_origin(hint) in (Union, types.UnionType, Annotated):
        for part in get_args(hint):
            yield from _members(part)
    else:
        yield hint


def _values(hint: Any) -> Values | None:
    """The values of a type that consists of numbers and words; None for any other type.

    A mapping that may be given instead is written in braces, so that it is no number and no word.
    """
    words: list[str] = []
    number, bounds = "", None
    for part in _members(hint):
        if part in _NUMBERS:
            number = "float" if "float" in (number, _NUMBERS[part]) else "int"
        elif part in _WORDS:
            words += _WORDS[part]
        elif get_origin(part) is Literal:
            words += map(str, get_args(part))
        elif isinstance(part, Bounds):
            bounds = list(part)
        elif get_origin(part) is not dict:
            return None
    known = number or set(words) - {"null"}
    return Values(list(dict.fromkeys(words)), number, bounds) if known else None


def _classes(hint: Any) -> list[str]:
    """The short names of the classes that a type accepts; empty if any text is accepted too."""
    names: list[str] = []
    for part in _members(hint):
        if part is str:
            return []
        if get_origin(part) is type:  # a class itself, by its path
            base = get_args(part)[0]
            optimizers = (name for name in dir(torch.optim) if name[0].isupper())
            found = [name for name in optimizers if _extends(getattr(torch.optim, name), base)]
            names += [f"torch.optim.{name}" for name in found]
            continue
        for base in (part, *get_args(part)):
            if isclass(base) and base.__module__.startswith(("mtl.", "lightning.")):
                names += [each.__name__ for each in _subclasses(base)]
    return list(dict.fromkeys(names))


def _extends(value: Any, base: type[Any]) -> bool:
    return isclass(value) and issubclass(value, base) and value is not base


def _subclasses(base: type[Any]) -> Iterator[type[Any]]:
    """The classes that are derived from a class."""
    for each in base.__subclasses__():
        yield each
        yield from _subclasses(each)
