"""Which files, method and sampling scheme a command names, before its arguments are parsed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mtl.errors import UserError
from mtl.system.package_data import find_config
from mtl.user_files import parse_yaml

# The classes that are used if a command names none.
DEFAULT_CLASSES = {"model": "MultiHead", "data": "RoundRobinDataModule"}


def class_options(arguments: Sequence[str], *keys: str) -> list[str]:
    """Returns options that name the classes of method and sampling scheme.

    They are placed before all other arguments.

    Other options, such as `--model.lr`, then refer to the arguments of these classes. Defaults of
    the parser would not do: the default class's own arguments would remain when another class is
    named.

    Args:
        arguments: The arguments of a command.
        keys: `model`, `data`, or both.
    """
    return [f"--{key}={class_name(key, arguments) or DEFAULT_CLASSES[key]}" for key in keys]


def with_config_files(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with the names of shipped configurations replaced by their files.

    Args:
        arguments: The arguments of a command, such as `-c methods/pals`.

    Raises:
        UserError: If a name is neither a file nor a configuration that ships.
    """
    resolved: list[str] = []
    follows = False
    for argument in arguments:
        if follows:
            resolved.append(_config_file(argument))
        elif argument.startswith("--config="):
            resolved.append(f"--config={_config_file(argument.removeprefix('--config='))}")
        elif argument.startswith("-c") and len(argument) > 2:  # -cFILE
            resolved.append(f"-c{_config_file(argument[2:].removeprefix('='))}")
        else:
            resolved.append(argument)
        follows = not follows and argument in ("-c", "--config")
    return resolved


def _config_file(value: str) -> str:
    """The file of a value of `-c`; a configuration written inline as JSON is unchanged."""
    if value.startswith("{"):
        return value
    try:
        return str(find_config(value))
    except UserError as error:
        raise UserError(f"-c {error}") from None


def names_tasks(arguments: Sequence[str]) -> bool:
    """Whether a configuration or a checkpoint of the command may name tasks."""
    for option, value in options_in(arguments):
        if option == "--ckpt_path":
            return True
        if option in ("-c", "--config"):
            content = config_content(value)
            if not isinstance(content, dict) or "tasks" in content:
                return True
    return False


def option_value(name: str, arguments: Sequence[str]) -> str | None:
    """Returns the last value of an option; None if it is not given."""
    values = [value for option, value in options_in(arguments) if option == name]
    return values[-1] if values else None


def named_files(arguments: Sequence[str]) -> list[Path]:
    """Returns the configuration files that a command names."""
    values = [value for option, value in options_in(arguments) if option in ("-c", "--config")]
    return [Path(value) for value in values if not value.startswith("{")]


def named_values(arguments: Sequence[str]) -> Iterator[str]:
    """Yields all strings that a command gives as values, also in its configuration files."""
    for option, value in options_in(arguments):
        if option in ("-c", "--config"):
            yield from _strings(config_content(value))
        elif option.startswith("--"):
            yield value


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def options_in(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields every argument with its value: the part after `=`, or the next argument."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if argument.startswith("-c") and len(argument) > 2:  # -cFILE
            yield "-c", argument[2:]
            continue
        option, equals, value = argument.partition("=")
        yield option, value if equals else following


def class_name(key: str, arguments: Sequence[str]) -> str | None:
    """The last class that the options or the configurations of a command name."""
    name = None
    for option, value in options_in(arguments):
        if option in (f"--{key}", f"--{key}.class_path"):
            name = value
        elif option in ("-c", "--config"):
            name = _class_name_in(key, value) or name
    return name


def trainer_values(arguments: Sequence[str]) -> dict[str, Any]:
    """The values of the Trainer's options that a command and its configurations give.

    Args:
        arguments: The arguments of a command; `-c` names files.
    """
    values: dict[str, Any] = {}
    for option, value in options_in(arguments):
        if option in ("-c", "--config"):
            content = config_content(value)
            section = content.get("trainer") if isinstance(content, dict) else None
            values |= section if isinstance(section, dict) else {}
        elif option.startswith("--trainer."):
            values[option.removeprefix("--trainer.")] = value
    return values


def _class_name_in(key: str, source: str) -> str | None:
    """The class that a configuration names.

    Args:
        key: `model` or `data`.
        source: A file, or a configuration written inline as JSON.
    """
    config = config_content(source)
    section = config.get(key) if isinstance(config, dict) else None
    name = section.get("class_path") if isinstance(section, dict) else section
    return name if isinstance(name, str) else None


def config_content(source: str) -> object:
    """The content of a configuration file, or of one written inline; None if it is unreadable."""
    try:
        text = source if source.startswith("{") else Path(source).read_text(encoding="utf-8")
        content: object = parse_yaml(text, source)
    except (OSError, UnicodeDecodeError, UserError):
        return None  # the parser reports the error
    return content
