"""Mistakes in configuration files, found with the index of options; messages name the line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mtl.cli.linked_options import LINKED
from mtl.cli.suggestions import suggest_options
from mtl.cli.word_values import check_value
from mtl.cli.words import OF_PARSER, Names, check_class
from mtl.errors import UserError, shorten
from mtl.user_files import compose_yaml


def check_config(source: str, names: Names) -> None:
    """Checks the keys, classes and values of a configuration.

    Args:
        source: A file, or a configuration written inline as JSON.
        names: The names that exist.

    Raises:
        UserError: If one is certainly wrong.
    """
    inline = source.startswith("{")
    of_command = f"-c, or {names.checkpoint}" if names.checkpoint else "-c"
    try:
        text = source if inline else Path(source).read_text(encoding="utf-8")
        root = compose_yaml(text, "-c" if inline else source)
    except (OSError, ValueError, yaml.YAMLError):
        return  # the parser reports it
    where = of_command if inline else source
    if isinstance(root, yaml.ScalarNode | yaml.SequenceNode) and root.value:
        held = "a list" if isinstance(root.value, list) else shorten(root.value)
        raise UserError(f"{where}: not a configuration: it holds {held} instead of options")
    sections = {option.removeprefix("--").partition(".")[0] for option in names.options}
    for name, key, value in _entries(root):
        if name not in sections:
            raise UserError(_unknown(f"--{name}", _line(where, key), names))
        if name in names.arguments:
            _check_object(name, value, where, names)
        elif isinstance(value, yaml.MappingNode) and name == "trainer":
            _check_trainer(value, where, names)
        else:
            _check_scalar(name, value, where, names.options.get(f"--{name}"))


def _check_trainer(node: Any, where: str, names: Names) -> None:
    for name, key, value in _entries(node):
        option = f"--trainer.{name}"
        if option not in names.options:
            raise UserError(_unknown(option, _line(where, key), names))
        _check_scalar(f"trainer.{name}", value, where, names.options[option])
        for item in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            _check_class_of(option, item, where, names)


def _check_object(section: str, node: Any, where: str, names: Names) -> None:
    """Checks the section of a method or a sampling scheme."""
    option = f"--{section}"
    _check_class_of(option, node, where, names)
    accepted, entries = names.arguments[section], {}
    for name, key, value in _entries(node):
        entries[name] = value
        if accepted is not None and name not in (*OF_PARSER, *accepted, *LINKED):
            raise UserError(_unknown(f"{option}.{name}", _line(where, key), names))
    named = getattr(entries.get("class_path"), "value", None)
    if named is not None:  # its arguments are those of this class, whatever the command chooses
        accepted = names.of_class.get(str(named).rpartition(".")[2])
    for name, key, value in _entries(entries.get("init_args")):
        if accepted is not None and name not in (*accepted, *LINKED):
            named_here = names._replace(arguments={**names.arguments, section: accepted})
            raise UserError(_unknown(f"{option}.{name}", _line(where, key), named_here))
        _check_scalar(f"{section}.{name}", value, where, (accepted or {}).get(name))
        _check_class_of(f"{option}.{name}", value, where, names)


def _check_class_of(option: str, node: Any, where: str, names: Names) -> None:
    """Checks the class that a value names: as a word, or with `class_path`."""
    named = next((value for name, _, value in _entries(node) if name == "class_path"), node)
    if isinstance(named, yaml.ScalarNode) and option in names.classes:
        check_class(f"{_line(where, named)}: {named.value}", option, named.value, names)


def _check_scalar(name: str, node: Any, where: str, values: Any) -> None:
    if isinstance(node, yaml.ScalarNode):
        check_value(f"{_line(where, node)}: {name} {node.value}", node.value, values)


def _entries(node: Any) -> Iterator[tuple[str, Any, Any]]:
    """The entries of a mapping; those with a dotted key are left to the parser."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode) and "." not in key.value and key.value != "<<":
            yield key.value, key, value


def _line(where: str, node: Any) -> str:
    return where if where.startswith("-c") else f"{where}, line {node.start_mark.line + 1}"


def _unknown(option: str, where: str, names: Names) -> str:
    """The message for a key that does not exist; options are spelled as keys."""
    hint = suggest_options(option, names.spelled()).replace("--", "")
    for section in names.arguments:
        hint = hint.replace(f" {section}.", f" {section}.init_args.")
    listed = "" if hint else f" `mtl {names.command} --help` lists the options."
    return f"{where}: unknown option {option.removeprefix('--')}.{hint}{listed}"
