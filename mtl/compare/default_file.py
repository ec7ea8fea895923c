"""The file of the comparison of tasks for which no definition is written."""

import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mtl.cli.class_options import option_value
from mtl.compare.defaults import default_definition
from mtl.compare.definition import absolute_reference
from mtl.compare.preflight import DataFacts, read_data, stream_sizes
from mtl.data.splits import example_limits
from mtl.errors import UserError
from mtl.system.package_data import editor_line
from mtl.tasks import Task
from mtl.training.run_folder import write_atomic
from mtl.user_files import parse_yaml

# Options of a run that the sampling schemes of several rows depend on: settings of the definition.
SETTINGS = {"trainer.max_epochs": "epochs", "data.batch_size": "batch_size"}
# The characters of the tasks' names in a file's name.
MAX_NAME = 60
# Begins the line with the digest of a definition's fields: the next command may replace the file
# unless the fields were edited.
UNEDITED = "# Replaced by the next command without a definition, unless you edit it: "


class DefaultFile(NamedTuple):
    """A saved definition.

    Attributes:
        path: Its file.
        facts: What the tasks' data consist of.
        options: Options of every run that a definition cannot hold.
    """

    path: Path
    facts: DataFacts
    options: tuple[str, ...]


def save_default(
    tasks: Sequence[str | Path], options: Sequence[str], root: Path, settings: dict[str, Any]
) -> DefaultFile:
    """Writes the definition of a comparison of tasks, to edit and to run again.

    Args:
        tasks: Task files, or names such as `tasks/sst2`.
        options: Options of every run, as command-line arguments.
        root: Folder of the runs and reports.
        settings: Other arguments of `default_definition`.

    Raises:
        UserError: If tasks have the same name, or an edited definition of them exists.
    """
    read = {reference: task for name in tasks for reference, task in _references(name).items()}
    named = {task.name: task for task in read.values()}
    if len(named) < len(read):
        raise UserError("tasks: two tasks have the same name; give every task its own")
    facts = read_data(named, tuple(options))
    limits = _example_limits(options, list(named.values()))
    train = {name: min(size, limits.get(name, size)) for name, size in facts.train.items()}
    streams = stream_sizes(named, train, tuple(options))
    written, others = _split_options(options)
    settings = settings | {
        setting: written.pop(name) for name, setting in SETTINGS.items() if name in written
    }
    fields = default_definition(read, streams, options=written, paired=bool(limits), **settings)
    path = root / "compare" / f"{_file_name(list(named))}.yaml"
    text = yaml.safe_dump(fields, sort_keys=False, width=100, allow_unicode=True)
    again = shlex.join(["mtl", "compare", str(path), *others])
    about = f"# Edit this file, and run it again with: {again}\n"
    _write_definition(path, f"{editor_line('comparison')}{about}", text)
    return DefaultFile(path, facts, tuple(others))


def _file_name(tasks: Sequence[str]) -> str:
    """The tasks' names; of many, the first ones and a digest of all."""
    joined = "+".join(tasks)
    return joined if len(joined) <= MAX_NAME else f"{joined[:MAX_NAME]}-{_digest(joined)}"


def _split_options(options: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The options that a definition can hold, by name, and the words of the others.

    >>> _split_options(["--trainer.precision=fast", "-c", "methods/pals", "--data.k", "8"])
    ({'trainer.precision': 'fast', 'data.k': 8}, ['-c', 'methods/pals'])
    """
    written: dict[str, Any] = {}
    others: list[str] = []
    words = iter(options)
    for word in words:
        name, equals, value = word.partition("=")
        given = [name, value if equals else next(words, "")]
        if name in ("-c", "--config") or name.endswith("+"):
            others += given
        else:
            written[name.removeprefix("--")] = parse_yaml(given[1], name)
    return written, others


def _example_limits(options: Sequence[str], tasks: list[Task]) -> dict[str, int]:
    """The maximum number of training examples of each task that an option limits."""
    value = option_value("--data.max_examples", tuple(options))
    limit = parse_yaml(value, "--data.max_examples") if value else None
    return example_limits(limit, tasks) if isinstance(limit, int | dict) else {}


def _write_definition(path: Path, header: str, fields: str) -> None:
    """Writes a definition, with the digest of its fields; an edited file is not replaced."""
    text = f"{header}{UNEDITED}{_digest(fields)}\n{fields}"
    before = path.read_text(encoding="utf-8") if path.exists() else text
    if before == text or _is_unedited(before):
        write_atomic(path, text)
        return
    raise UserError(
        f"{path} was edited, and differs from the definition of these tasks and options. To use "
        f"it: mtl compare {path}; otherwise move or delete it. Finished runs are kept"
    )


def _is_unedited(text: str) -> bool:
    """Whether the fields of a definition are those that were written."""
    _, found, rest = text.partition(UNEDITED)
    digest, _, fields = rest.partition("\n")
    return bool(found) and digest == _digest(fields)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _references(task: str | Path) -> dict[str, Task]:
    """The tasks of a file: its absolute path, or the name of a task that ships, and `#TASK`."""
    reference, read = absolute_reference(str(task)), Task.read_all(task)
    if len(read) == 1:
        return {reference: read[0]}
    return {f"{reference}#{each.name}": each for each in read}
