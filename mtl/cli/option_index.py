"""The names of options, classes and values of `mtl fit` and its relatives, kept between commands.

With them, mistakes in the words of a command are found before the libraries are imported. The full
parser writes the index to the user's cache; it holds for one set of versions and sources.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from mtl._version import __version__

HELP_WORDS = (["-h"], ["--help"])
FULL_HELP_WORDS = tuple([*words, "all"] for words in HELP_WORDS)
LIBRARIES = ("jsonargparse", "lightning", "torch", "torchjd", "transformers")


class Values(NamedTuple):
    """The values that an option accepts.

    Attributes:
        words: Words, such as `mean` or `null`.
        number: `int`, `float`, or nothing if it accepts no numbers.
        bounds: The fields of `mtl.bounds.Bounds`, if numbers have bounds.
    """

    words: list[str]
    number: str = ""
    bounds: list[Any] | None = None


class OptionIndex(NamedTuple):
    """The names that exist.

    Attributes:
        options: For each command its options, such as `--trainer.max_epochs`; None for the values
            of an option that accepts anything else than numbers and certain words.
        classes: The classes that options such as `--model.balancer` accept without their module.
        arguments: The arguments of each method and scheme, by the short name of its class.
        help: The help of each command, by its name and the width of the terminal.
    """

    options: dict[str, dict[str, Values | None]]
    classes: dict[str, list[str]]
    arguments: dict[str, dict[str, Values | None]]
    help: dict[str, str]


@cache
def read_index() -> OptionIndex | None:
    """The index in the user's cache; None if there is none for these versions and sources."""
    try:
        content = json.loads(_index_file().read_text(encoding="utf-8"))
        if content["key"] != _key():
            return None
        index = OptionIndex(**content["index"])
        options = {name: _values(each) for name, each in index.options.items()}
        arguments = {name: _values(each) for name, each in index.arguments.items()}
    except (OSError, ValueError, LookupError, TypeError, RuntimeError):
        return None
    return index._replace(options=options, arguments=arguments)


def write_index(index: OptionIndex) -> None:
    """Writes the index to the user's cache, if that is possible."""
    try:
        file = _index_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f"{file.name}.{os.getpid()}")
        content = {"key": _key(), "index": index._asdict()}
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(file)
    except (OSError, RuntimeError):
        return  # the next mistake takes longer to report
    read_index.cache_clear()


def kept_help(command: str) -> str | None:
    """The help of a command for this width of the terminal; None if it is not kept."""
    index = read_index()
    return index.help.get(_help_key(command)) if index else None


def keep_help(command: str, text: str) -> None:
    """Keeps the help of a command for the next time."""
    if index := read_index():
        write_index(index._replace(help=index.help | {_help_key(command): text}))


def _help_key(command: str) -> str:
    return f"{command} {shutil.get_terminal_size().columns}"


def _values(options: dict[str, Any]) -> dict[str, Values | None]:
    return {name: values and Values(*values) for name, values in options.items()}


def _index_file() -> Path:
    cache_folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_folder) / "mtl" / "options.json"


def _key() -> list[str]:
    """Identifies the versions and the sources that an index was made of."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for entry in sorted(_sources(package), key=lambda entry: entry.path):
        status = entry.stat()
        digest.update(f"{entry.path} {status.st_mtime_ns} {status.st_size}\n".encode())
    libraries = [version(name) for name in LIBRARIES]
    return [__version__, sys.version, sys.prefix, digest.hexdigest(), *libraries]


def _sources(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _sources(Path(entry.path))
            elif entry.name.endswith(".py"):
                yield entry
