"""Arguments of method and scheme that a command sets itself, so that giving them has no effect."""

from collections.abc import Mapping, Sequence
from typing import Any

from mtl.cli.class_options import config_content, options_in
from mtl.errors import UserError

# The option that sets each of them.
LINKED = {
    "tasks": "--tasks+",
    "backbone": "--backbone",
    "score": "--score",
    "seed": "--seed_everything",
}
# The arguments of each section.
SECTIONS = {"model": ("tasks", "backbone", "score"), "data": ("tasks", "backbone", "seed")}


def check_linked(arguments: Sequence[str]) -> None:
    """Checks that a command gives no argument that it sets itself.

    Args:
        arguments: The arguments of a command; `-c` names files.

    Raises:
        UserError: If it does; the message names the option to give instead.
    """
    for word, value in options_in(arguments):
        option = word.removeprefix("--").removesuffix("+").replace(".init_args.", ".")
        section, _, name = option.partition(".")
        if word.startswith("--") and name in SECTIONS.get(section, ()):
            raise UserError(f"{word} has no effect; give {LINKED[name]} instead")
        if word in ("-c", "--config") and not value.startswith("{"):
            _check_file(value, config_content(value))


def _check_file(file: str, content: object) -> None:
    for section, names in SECTIONS.items():
        value: Any = content.get(section) if isinstance(content, Mapping) else None
        arguments = value.get("init_args", value) if isinstance(value, Mapping) else {}
        for name in names if isinstance(arguments, Mapping) else ():
            if arguments.get(name) is not None:
                key = LINKED[name].strip("-+")
                raise UserError(
                    f"{file}: {section}: {name} has no effect; give `{key}:` at the top of the "
                    f"file, or {LINKED[name]}"
                )
