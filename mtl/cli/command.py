"""The common part of the commands that are written with argparse.

The module of a command has three functions: `add_arguments(parser)` describes the command and its
options, `run(args)` executes it and returns the exit status (None: 0), and `main(arguments)` calls
`run_command`.
"""

import argparse
import re
import sys
from argparse import HelpFormatter
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

from mtl.cli.errors import exit_with_error, report_user_errors
from mtl.cli.suggestions import suggest_options
from mtl.errors import UserError
from mtl.parse_errors import explain_parse_error

# One line for each option.
LAYOUT: dict[str, Any] = {"max_help_position": 36, "width": 110}

AddArguments = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], int | None]


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are one message, which suggests the nearest option.

    Args:
        command: The command's name.
    """

    def __init__(self, command: str) -> None:
        super().__init__(
            f"mtl {command}", allow_abbrev=False, formatter_class=partial(HelpFormatter, **LAYOUT)
        )

    def error(self, message: str) -> NoReturn:
        """Prints the message and exits with status 2."""
        if unknown := re.match(r"unrecognized arguments: (--?[^\s=]+)", message):
            hint = suggest_options(unknown[1], self.options())
            listed = "" if hint else f" `{self.prog} --help` lists the options."
            exit_with_error(f"unknown option {unknown[1]}.{hint}{listed}")
        exit_with_error(explain_parse_error(message, self.options()))

    def options(self) -> list[str]:
        """The names of all options."""
        return [name for name in self._option_string_actions if name.startswith("--")]


def add_model_option(parser: Any) -> None:
    """Adds `--model`, which names the classes of a run that are not part of mtl."""
    parser.add_argument(
        "--model",
        action="append",
        metavar="CLASS",
        help="class of the run that is not part of mtl, such as my_layers.MyLayers, repeatable; "
        "its module is imported",
    )


def import_model_classes(classes: Sequence[str] | None) -> None:
    """Imports the modules of the classes that `--model` names.

    Raises:
        UserError: If there is no such class.
    """
    for path in classes or ():
        module, _, name = path.rpartition(".")
        try:
            found = bool(module) and hasattr(import_module(module), name)
        except ModuleNotFoundError as error:
            raise UserError(
                f"--model {path}: there is no module {error.name!r}. `python -m mtl` also finds "
                "modules in the working directory; `mtl` finds installed modules only."
            ) from error
        if not found:
            raise UserError(
                f"--model {path}: no such class; give its import path, such as my_layers.MyLayers"
            )


def parse_arguments(
    command: str,
    arguments: Sequence[str],
    add_arguments: AddArguments,
    accept_unknown: bool = False,
) -> argparse.Namespace:
    """Parses the arguments of a command.

    Args:
        command: The command's name.
        arguments: The arguments after the name.
        add_arguments: Describes the command and its options.
        accept_unknown: Whether unknown arguments are stored in `args.unknown`, for another command,
            and the names of the known ones in `args.options`; otherwise they are an error.
    """
    parser = CommandParser(command)
    add_arguments(parser)
    arguments = _with_negative_values(arguments)
    if not accept_unknown:
        return parser.parse_args(arguments)
    args, unknown = parser.parse_known_args(arguments)
    args.unknown, args.options = unknown, parser.options()
    return args


def _with_negative_values(arguments: Sequence[str]) -> list[str]:
    """The arguments with values such as -2h attached to their option, as argparse needs them."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1].startswith("--") and re.match(r"-\.?[0-9]+[^0-9.]", argument):
            joined[-1] = f"{joined[-1]}={argument}"
        else:
            joined.append(argument)
    return joined


def run_command(
    command: str,
    arguments: Sequence[str],
    add_arguments: AddArguments,
    run: Run,
    accept_unknown: bool = False,
) -> None:
    """Parses the arguments and runs a command; a `UserError` becomes one message and exit status 2.

    Args:
        command: The command's name.
        arguments: The arguments after the name.
        add_arguments: Describes the command and its options.
        run: Executes the command; returns the exit status.
        accept_unknown: As in `parse_arguments`.
    """
    with report_user_errors():
        status = run(parse_arguments(command, arguments, add_arguments, accept_unknown))
    if status:
        sys.exit(status)
