"""Checks before anything is trained: the data, the options of every row, and its exports."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtl.cli.class_options import option_value
from mtl.cli.parsed import parse_command
from mtl.cli.refusals import user_error_behind
from mtl.compare.plan import Plan
from mtl.compare.run_index import RunIndex
from mtl.compare.run_spec import RunSpec
from mtl.data.data_warnings import task_data_warnings, without_encoding
from mtl.data.encoding import Plain
from mtl.data.label_groups import label_groups
from mtl.data.task_data import TaskDataModule
from mtl.data.unencoded import Memory, UnencodedOpener
from mtl.errors import UserError
from mtl.export.formats import transformers_format
from mtl.modules.backbone import without_weights
from mtl.tasks import Task

# The scores of a class with fewer training examples than this are mostly luck.
FEW_EXAMPLES = 9


@dataclass(frozen=True)
class DataFacts:
    """What the tasks' data consist of.

    Attributes:
        train: Number of training examples of each task.
        test: Number of test examples of each task.
        memory: The splits that were read.
    """

    train: dict[str, int] = field(default_factory=dict)
    test: dict[str, int] = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)


def read_data(tasks: Mapping[str, Task], options: tuple[str, ...] = ()) -> DataFacts:
    """Reads all splits of the tasks.

    Args:
        tasks: The tasks by name.
        options: Options of every run; `--data.root` among them replaces the tasks' sources.

    Raises:
        UserError: If an example cannot be used.
    """
    facts, root = DataFacts(), option_value("--data.root", options)
    opener = UnencodedOpener(None, facts.memory)
    for name, task in tasks.items():
        sizes = {
            split: len(opener.open(task, split, Path(root) if root else None))
            for split in (task.splits.train, *task.splits.validation, *task.splits.test)
        }
        facts.train[name] = sizes[task.splits.train]
        facts.test[name] = sum(sizes[split] for split in task.splits.test)
    return facts


def stream_sizes(
    tasks: Mapping[str, Task], train: Mapping[str, int], options: tuple[str, ...]
) -> dict[str, int]:
    """The number of texts that each label group draws from, by the name of its first task.

    Args:
        tasks: The tasks by name.
        train: Number of training examples of each task.
        options: Options of every run.
    """
    if option_value("--data.label_groups", options) == "false":
        return dict(train)
    listed, by_folder = list(tasks.values()), bool(option_value("--data.root", options))
    groups = label_groups(listed, Plain(), {}, by_folder)
    named = [[listed[index].name for index in group] for group in groups]
    return {names[0]: max(train[name] for name in names) for names in named}


def check_rows(plan: Plan, root: Path, memory: Memory) -> tuple[list[str], list[str]]:
    """Creates the data and the method of every row, without weights.

    Args:
        plan: The runs.
        root: Folder of the runs.
        memory: The splits that were read.

    Returns:
        Warnings about the examples that rows train on; and the rows whose exports transformers
        cannot load.

    Raises:
        UserError: If the options of a row are invalid.
    """
    index, unloadable = RunIndex(plan, root), []
    warnings: dict[str, dict[str, None]] = {}  # the names of rows by warning
    for name, row in plan.experiment.rows.items():
        if row.command != "fit" or row.uses:
            continue
        for number, run in enumerate(_first_runs(plan, name)):
            created = _created(plan, index, run)
            for warning in _data_warnings(created.data, memory):
                warnings.setdefault(warning, {})[name] = None
            if not number and transformers_format(created.model) is None:
                unloadable.append(name)
    rows = max((len(names) for names in warnings.values()), default=0)
    return [
        warning if len(names) == rows else f"{warning} (rows: {', '.join(names)})"
        for warning, names in warnings.items()
    ], unloadable


def _first_runs(plan: Plan, row: str) -> Iterator[RunSpec]:
    """The first run of a row for each task, or the first for all of them."""
    tasks = set[str | None]()
    for run in plan.runs(row):
        if run.task not in tasks:
            tasks.add(run.task)
            yield run


def _created(plan: Plan, index: RunIndex, run: RunSpec) -> Any:
    """The configured data and method of a run, without weights."""
    try:
        index.job(run)
        command = parse_command(["fit", *index.name_and_arguments(run, {})[1]])
        with without_weights():
            return command.parser.instantiate(command.config).fit
    except Exception as error:
        if not (cause := user_error_behind(error)):
            raise
        raise UserError(f"rows: {run.row}: {cause}") from error


def _data_warnings(data: TaskDataModule, memory: Memory) -> Iterator[str]:
    unencoded = without_encoding(data, memory)
    for index, task in enumerate(data.tasks):
        for warning in task_data_warnings(data, unencoded, index, few=FEW_EXAMPLES):
            yield f"task {task.name!r}, {warning}"
