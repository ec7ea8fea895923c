"""Task files: YAML whose names and values are the words as they are written."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from mtl.errors import UserError, did_you_mean, shorten
from mtl.system.package_data import config_names, find_config
from mtl.user_files import compose_yaml, expand_path, parse_yaml, read_user_text

# Fields that hold words of the data, possibly words that YAML reads as something else.
WORDS = (
    ("name",),
    ("texts",),
    ("tokens",),
    ("choices",),
    ("label",),
    ("labels",),
    ("classes",),
    ("source", "files"),
    ("source", "columns"),
    ("source", "labels"),
    ("source", "where"),
    ("source", "marks"),
    ("prompt", "words"),
)


def read_task_file(name: str | Path) -> tuple[Path, dict[str, Any]]:
    """Reads a task file.

    Returns:
        The file's absolute path, and its fields.

    Raises:
        UserError: If there is no such file, or it is not a mapping.
    """
    path = expand_path(name).resolve()
    if not path.is_file() and str(name) in config_names():
        path = find_config(str(name)).resolve()
    if not path.exists():
        siblings = [file.name for file in path.parent.glob("*.yaml")]
        shipped = [each for each in config_names() if each.startswith("tasks/")]
        hint = did_you_mean(path.name, siblings) or _shipped_task(str(name), shipped)
        raise UserError(f"{path}: there is no such task file.{hint}")
    text = read_user_text(path)
    fields = parse_yaml(text, str(path))
    if not isinstance(fields, dict):
        raise UserError(
            f"{path}: not a task file: it holds {shorten(fields)} instead of fields such as "
            "`name:` and `texts:`"
        )
    _check_written_words(text, str(path))
    source = fields.get("source")
    for name, value in source.items() if isinstance(source, dict) else ():
        if value in ({}, None):
            raise UserError(f"{path}: source.{name} is empty; fill it in, or remove it")
    return path, fields


def _shipped_task(name: str, shipped: list[str]) -> str:
    """A sentence that suggests the nearest task that ships, or says how to find them."""
    for each in shipped:
        if each.endswith(f"/{name}"):
            return f" Did you mean {each!r}?"
    return did_you_mean(name, shipped) or (
        " Give a task file (docs/your-task.md), or the name of a task that ships, such as "
        "tasks/sst2."
    )


def group_members(fields: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """The fields of each task of a file with several tasks under `tasks`.

    A task has the other fields of the file, unless it gives its own. Labels may be missing.

    Raises:
        UserError: If `tasks` is not a mapping of names to fields, or a task that labels words reads
            another column than the others.
    """
    members = fields["tasks"]
    if not isinstance(members, dict) or not members:
        raise UserError(
            f"{where}: tasks: give a mapping of task names to fields, such as "
            "`topic: {label: topic, classes: [...]}`"
        )
    common = {"drop": ["unlabelled"]} | {k: v for k, v in fields.items() if k != "tasks"}
    if "name" in common:
        raise UserError(f"{where}: name: the keys of `tasks` are the names; remove it")
    for name, own in members.items():
        if not isinstance(own, dict):
            raise UserError(f"{where}: tasks.{name}: give its fields, such as `label: {name}`")
    shared = {
        name: {k: v for k, v in common.items() if k != "texts" or "tokens" not in own}
        for name, own in members.items()
    }
    tasks = [shared[name] | {"name": name} | own for name, own in members.items()]
    for task in tasks:
        if "tokens" in task:
            _check_columns(task, tasks, where)
    return tasks


def _check_columns(words: dict[str, Any], tasks: list[dict[str, Any]], where: str) -> None:
    """Refuses tasks that read another column than a task that labels words."""
    column = words["tokens"]
    for task in tasks:
        texts = task["tokens"] if "tokens" in task else task.get("texts")
        if texts not in (column, [column]):
            raise UserError(
                f"{where}: tasks.{words['name']}: it labels the words of column {column!r}, but "
                f"{task['name']} reads {texts!r}; the tasks of a file label the same texts. Write "
                f"`texts: [{column}]` instead (the text is then these words, joined by spaces; "
                "`mtl predict` reads this column, too), or give "
                f"{words['name']} a task file of its own"
            )


def words_as_text(fields: dict[str, Any], where: str) -> dict[str, Any]:
    """The fields of a task, with numbers and dates among its words as text.

    Args:
        fields: The fields of a task.
        where: The task's file in errors.

    Raises:
        UserError: If a word is a boolean or missing, so that its spelling is not known.
    """

    def text(value: Any) -> str:
        if value is None or isinstance(value, bool):
            raise UserError(
                f"{where}: {name}: YAML reads a bare no, yes, on, off, null or nothing as "
                f'{value}; write "no" in quotes'
            )
        return str(value)

    fields = dict(fields)
    for path in WORDS:
        name, parent = ".".join(path), fields
        for part in path[:-1]:
            if isinstance(parent.get(part), dict):
                parent[part] = dict(parent[part])
                parent = parent[part]
            else:
                parent = {}
        if path[-1] in parent:
            parent[path[-1]] = _mapped(parent[path[-1]], text)
    return fields


def _mapped(value: Any, text: Callable[[Any], str]) -> Any:
    """A value with its words replaced; a value of the wrong type is left to the parser."""
    if isinstance(value, list):
        return [item if isinstance(item, dict | list) else text(item) for item in value]
    if isinstance(value, dict):
        return {text(key): _mapped(item, text) for key, item in value.items()}
    return text(value) if isinstance(value, bool | int | float) else value


def _check_written_words(text: str, where: str) -> None:
    """Refuses words that YAML reads as another spelling: `no` as false, `010` as 8."""
    root = compose_yaml(text, where)
    for path in WORDS:
        for node in _scalars(_descend(root, path)):
            read = node.value if node.style else parse_yaml(node.value, where)
            line = f"{where}, line {node.start_mark.line + 1}: {'.'.join(path)}"
            if not node.value and not node.style:
                raise UserError(f"{line} is empty; fill it in, or remove it")
            if str(read) != node.value:
                raise UserError(
                    f'{line}: YAML reads a bare {node.value} as {read}; write "{node.value}" in '
                    "quotes"
                )


def _descend(node: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for key, value in node.value if key.value == name), None)
    return node


def _scalars(node: Any) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item)
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            for part in pair:
                yield from _scalars(part)
