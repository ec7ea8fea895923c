"""Checks before anything is trained: the data, the options of every row, and its exports."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mtl.cli.class_options import option_value
from mtl.cli.errors import user_error_behind
from mtl.cli.parsed import parse_command
from mtl.compare.plan import Plan
from mtl.compare.run_index import RunIndex
from mtl.data.checks import checked_examples
from mtl.data.sources import open_split
from mtl.errors import UserError
from mtl.export.formats import transformers_format
from mtl.modules.backbone import without_weights
from mtl.tasks import Task

# The scores of a class with no more training examples than this are mostly luck.
FEW_EXAMPLES = 8


@dataclass(frozen=True)
class DataFacts:
    """What the tasks' data consist of.

    Attributes:
        train: Number of training examples of each task.
        test: Number of test examples of each task.
        warnings: What limits what can be learned.
    """

    train: dict[str, int] = field(default_factory=dict)
    test: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_data(tasks: Mapping[str, Task], options: tuple[str, ...] = ()) -> DataFacts:
    """Reads all splits of the tasks.

    Args:
        tasks: The tasks by name.
        options: Options of every run; `--data.root` among them replaces the tasks' sources.

    Raises:
        UserError: If an example cannot be used.
    """
    facts, root = DataFacts(), option_value("--data.root", options)
    for name, task in tasks.items():
        labels = Counter(_labels(task, task.splits.train, root))
        facts.train[name] = labels.total()
        for split in task.splits.validation:
            Counter(_labels(task, split, root))
        facts.test[name] = sum(Counter(_labels(task, s, root)).total() for s in task.splits.test)
        if task.kind.has_class_probabilities:
            for index, of_class in enumerate(task.classes):
                if (count := labels[index]) <= FEW_EXAMPLES:
                    facts.warnings.append(
                        f"task {name}: class {of_class!r} has {count} training examples"
                    )
    return facts


def _labels(task: Task, split: str, root: str | None) -> Iterator[float]:
    rows = open_split(task, split, Path(root) if root else None)
    for example in checked_examples(task, rows, Counter()):
        assert example.label is not None
        yield example.label


def check_rows(plan: Plan, root: Path) -> list[str]:
    """Creates the method of every row, without weights.

    Returns:
        Warnings about rows whose exports transformers cannot load.

    Raises:
        UserError: If the options of a row are invalid.
    """
    index, unloadable = RunIndex(plan, root), []
    for name, row in plan.experiment.rows.items():
        if row.command != "fit" or row.uses:
            continue
        run = next(plan.runs(name))
        try:
            index.job(run)
            command = parse_command(["fit", *index.name_and_arguments(run, {})[1]])
            with without_weights():
                method = command.parser.instantiate(command.config).fit.model
        except Exception as error:
            if not (cause := user_error_behind(error)):
                raise
            raise UserError(f"rows: {name}: {cause}") from error
        if transformers_format(method) is None:
            unloadable.append(name)
    return [f"transformers cannot load exports of {name!r}; mtl.load can" for name in unloadable]
