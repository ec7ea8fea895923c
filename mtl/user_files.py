"""Files that users write: YAML and JSON are read strictly, and paths are expanded."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mtl.errors import UserError, shorten

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# How many values the aliases of a YAML text may repeat, and how deeply it may be nested.
MOST_ALIASED = 10_000
DEEPEST = 100

# Byte order marks of encodings other than UTF-8, the longer ones first.
FOREIGN_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


class RepeatedKey(ValueError):
    """A key occurs twice in a JSON object."""


def expand_path(path: str | Path) -> Path:
    """Replaces `~` and environment variables in a path.

    Raises:
        UserError: If the path is empty, or if a variable is not set or a user is unknown, and there
            is no file of that very name.
    """
    if not str(path):
        raise UserError("the path is empty; give one, or omit the option")
    expanded = os.path.expandvars(os.path.expanduser(path))
    user = re.match(r"~[^/]*", expanded)
    if user and not os.path.lexists(user[0]):
        name = user[0].removeprefix("~")
        raise UserError(
            f"{path}: there is no user {name!r} on this machine; write ./{path} for a folder of "
            "that name"
        )
    unset = re.search(r"\$\{?(\w+)\}?", expanded)
    if unset and unset[1] not in os.environ and not os.path.lexists(expanded):
        raise UserError(f"{path}: the environment variable {unset[1]} is not set")
    return Path(expanded)


def foreign_encoding(start: bytes) -> str | None:
    """The encoding that the first bytes of a file give, if it is not UTF-8."""
    marks = (name for mark, name in FOREIGN_MARKS.items() if start.startswith(mark))
    return next(marks, None)


def read_user_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises:
        UserError: If it is a folder, cannot be read, or is not UTF-8.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if encoding := foreign_encoding(content):
        raise UserError(f"{path}: is {encoding}; save the file as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from error


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        UserError: If it cannot be read, is not YAML, or has a key twice in a mapping.
    """
    return parse_yaml(read_user_text(path), str(path))


def parse_yaml(text: str, where: str) -> Any:
    """The content of a YAML text.

    Args:
        text: The text.
        where: The file's name in errors.

    Raises:
        UserError: If it is not YAML, or `compose_yaml` refuses it.
    """
    try:
        compose_yaml(text, where)
        return yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        message = " ".join(str(error).split())
        raise UserError(f"{where}: cannot be read as YAML: {message}") from error


def compose_yaml(text: str, where: str) -> Any:
    """The root node of a YAML document; None if it is empty.

    Args:
        text: The text.
        where: The file's name in errors.

    Raises:
        UserError: If a key occurs twice in a mapping, the aliases stand for too many values, or
            it is nested too deeply.
        yaml.YAMLError: If it is not YAML.
    """
    _check_depth(text, where)
    root = yaml.compose(text, Loader)
    _check_aliases(root, where)
    _check_keys(root, where)
    return root


def _check_depth(text: str, where: str) -> None:
    """Refuses texts that are nested so deeply that the recursive C parser would crash."""
    depth = 0
    event: Any
    for event in yaml.parse(text, Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise UserError(
                f"{where}, line {event.start_mark.line + 1}: nested more than {DEEPEST} levels deep"
            )


def _check_aliases(root: Any, where: str) -> None:
    """Refuses aliases that stand for too many values, or contain themselves.

    A few nested aliases stand for more values than fit in memory.
    """
    waiting, seen, repeated = [root], set[int](), 0
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            repeated += 1
        seen.add(id(node))
        if repeated > MOST_ALIASED:
            raise UserError(
                f"{where}: its aliases, such as *name, stand for more than {MOST_ALIASED:,} "
                "values; write the values instead"
            )
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _check_keys(root: Any, where: str) -> None:
    """Refuses a key that occurs twice in a mapping; the message names both lines."""
    for mapping in _mappings(root):
        lines: dict[tuple[str, str], int] = {}
        for key, _ in mapping.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            name = (key.tag, key.value)
            if name in lines:
                raise UserError(
                    f"{where}, line {line}: the key {key.value!r} occurs twice, first in line "
                    f"{lines[name]}; remove one"
                )
            lines[name] = line


def _mappings(root: Any) -> Iterator[yaml.MappingNode]:
    """The mappings of a document; an alias is followed once."""
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            waiting += [part for pair in reversed(node.value) for part in reversed(pair)]
        else:
            waiting += reversed(node.value)


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        RepeatedKey: If an object has a key twice.
        ValueError: If the text is not JSON.
        RecursionError: If it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for index, name in enumerate(names) if name in names[:index])
        raise RepeatedKey(f"the key {shorten(repeated)} occurs twice; remove one")
    return values
