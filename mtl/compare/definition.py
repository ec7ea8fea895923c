"""The definition of a comparison: which runs answer a question.

One YAML file per comparison; `docs/compare.md` describes the format.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from jsonargparse import ArgumentError, ArgumentParser

from mtl.compare.definition_fields import MEAN, check_names, check_required, field_names
from mtl.compare.definition_file import read_fields
from mtl.compare.definition_parts import Column, Front, Preset, Published, Search, Variant
from mtl.errors import UserError, reject_unknown
from mtl.parse_errors import explain_parse_error
from mtl.system.package_data import CONFIGS, config_names, find_config
from mtl.tasks import Task
from mtl.tasks.score import Score
from mtl.user_files import read_yaml

__all__ = ["MEAN", "Experiment", "config_file"]


@dataclass(frozen=True)
class Experiment:
    """A question and the runs that answer it.

    A file with `like: NAME` inherits from that file or table and lists only what differs.

    Args:
        question: The question that the table answers, in one sentence.
        rows: The rows by name, in display order. A row must be defined after those it uses.
        baseline: The row that the others are compared with; one run per task.
        sizes: The sizes by name; the tables of the project have `paper` and `mini`.
        budget: What all rows have in common, in words, such as `4 passes over each task's
            examples`.
        suite: A suite's file, relative to this file, or its name, such as `glue`.
        tasks: Task files, relative to this file, or names such as `tasks/sst2`; instead of `suite`.
        columns: Tasks, such as `rte`, or single metrics, such as `mrpc.f1`. The first metric listed
            for a task also selects its checkpoint. Default: all tasks of the suite.
        published: Published results.
        crossed: Two sets of row fragments, such as schemes and methods. Every combination becomes a
            row named `SCHEME, METHOD`, unless `rows` already has one of that name.
        margin: Loss in points up to which a row counts as no worse than its baseline. Fix it before
            the runs.
        target: Difference in points that matters; plans say how many seeds would detect it.
        looks: Numbers of seeds at which `mtl compare --look next` decides, such as `[5, 10, 20]`.
            Default: one look, with all seeds.
        paired: Whether the seed draws the training examples (k-shot, or `data.max_examples`, whose
            choice then depends on the seed). Rows then share them and are compared seed by seed.
        front: Fixed loss weights that the rows are measured against, in addition to the baseline.

    Raises:
        UserError: If the rows contradict one another.
    """

    question: str
    rows: dict[str, Variant]
    baseline: str
    sizes: dict[str, Preset]
    budget: str
    suite: str = ""
    tasks: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    published: Published | None = None
    crossed: dict[str, dict[str, Any]] = field(default_factory=dict)
    margin: float = 1.0
    target: float = 2.0
    looks: list[int] = field(default_factory=list)
    paired: bool = False
    front: Front | None = None

    def __post_init__(self) -> None:
        if bool(self.suite) == bool(self.tasks):
            raise UserError("give either a suite or a list of tasks")
        if not 0 <= self.margin < math.inf:
            raise UserError(f"margin: {self.margin:g}: give a number of points, 0 or more")
        if not 0 < self.target < math.inf:
            raise UserError(f"target: {self.target:g}: give a number of points above 0")
        if self.looks != sorted(set(self.looks)) or min(self.looks, default=2) < 2:
            raise UserError(
                f"looks: {self.looks}: give increasing numbers of seeds, 2 or more, such as "
                "[5, 10, 20]"
            )
        reject_unknown("baseline", "row", [self.baseline], self.rows)
        defined: list[str] = []
        for name, row in self.rows.items():
            if name == row.against:
                raise UserError(f"rows: {name}: against: a row cannot be compared with itself")
            for other in (*row.uses.values(), *([row.against] if row.against else [])):
                reject_unknown(f"rows: {name}", "row", [other], self.rows)
                if name == other:
                    raise UserError(f"rows: {name}: uses: a row cannot use its own run")
                if other not in defined:
                    raise UserError(f"rows: {name} needs {other!r}; define {other!r} before it")
            if row.command == "merge" and not row.merges_all_tasks:
                raise UserError(
                    f"rows: {name}: a row that merges has `uses: {{runs: ROW}}` and options of "
                    "`mtl merge`, and no `of`, `tasks`, `configs` or `search`: its tasks are those "
                    "of that row"
                )
            defined.append(name)
        reject_unknown("published", "row", self.published.rows if self.published else (), self.rows)
        if not any(row.trains_single_tasks for row in self.rows.values()):
            raise UserError(
                "rows: no row trains each task alone; every comparison needs one with `of: task`"
            )
        if self.front:
            reject_unknown("front: row", "row", [self.front.row], self.rows)
            if self.rows[self.front.row].of != "suite":
                raise UserError(f"front: row: {self.front.row} does not train all tasks in one run")
            if self.front.draws < 0:
                raise UserError(f"front: draws: {self.front.draws}: give 0 or more")
        if self.crossed and len(self.crossed) != 2:
            raise UserError(f"crossed: expected two sets of row fragments, got {len(self.crossed)}")

    @classmethod
    def read(cls, name: str) -> Self:
        """Reads a table by its name in `experiments/tables/`, or from a file.

        Raises:
            UserError: If there is no such table, or a field is invalid.
        """
        path, contents = read_fields(name, field_names(cls))
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(cls, "table")
        try:
            check_required(contents)
            table: Self = parser.instantiate(parser.parse_object({"table": contents})).table
            table._check_files(path)
            check_names(table)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        except (ArgumentError, ValueError, TypeError) as error:
            parts = (Experiment, Variant, Preset, Search, Published, Front)
            names = [name for part in parts for name in field_names(part)]
            message = " ".join(str(error).split()).replace('Parser key "table.', 'Parser key "')
            raise UserError(f"{path}: {explain_parse_error(message, names)}") from error
        return table

    def _check_files(self, path: Path) -> None:
        """Checks that the suite, the tasks and all configs exist, before anything is trained."""
        if self.suite and not self.suite_file.is_file():
            suites = [name.partition("/")[2] for name in config_names() if name[:7] == "suites/"]
            if self.suite.endswith(".yaml"):
                raise UserError(
                    f"suite: no file {self.suite!r}. Give a file, relative to {path.name}, or "
                    f"one of: {', '.join(suites)}."
                )
            reject_unknown("suite", "suite", [self.suite], suites)
        for name, row in self.rows.items():
            for config in row.configs:
                try:
                    config_file(config)
                except UserError as error:
                    raise UserError(f"rows: {name}: configs: {error}") from None

    @property
    def suite_file(self) -> Path:
        """The suite's file."""
        named = CONFIGS / "suites" / f"{self.suite}.yaml"
        return Path(self.suite) if self.suite.endswith(".yaml") else named

    @cached_property
    def _suite_fields(self) -> dict[str, Any]:
        if self.tasks:
            return {"tasks": self.tasks}
        contents: dict[str, Any] = read_yaml(self.suite_file)
        return contents

    @cached_property
    def task_files(self) -> dict[str, Path]:
        """The task files by task name."""
        folder = Path() if self.tasks else self.suite_file.parent
        named: dict[str, Path] = {}
        for reference in self._suite_fields["tasks"]:
            try:
                file = _task_file(str(reference), folder)
                tasks = Task.read_all(file)
            except UserError as error:
                raise UserError(f"tasks: {error}") from error
            for task in tasks:
                if task.name in named:
                    raise UserError(
                        f"tasks: the name {task.name!r} occurs twice, in {named[task.name]} and "
                        f"{file}; give every task its own name"
                    )
                named[task.name] = Path(f"{file}#{task.name}") if len(tasks) > 1 else file
        return named

    @cached_property
    def suite_score(self) -> Score | None:
        """The suite's own score; None if it defines none."""
        if not (score := self._suite_fields.get("score")):
            return None
        return Score(score)

    @cached_property
    def shown_columns(self) -> dict[str, Column]:
        """The table's columns by name."""
        columns = {}
        for name in self.columns or list(self.task_files):
            task, _, metric = name.partition(".")
            columns[name] = Column(task, metric or None)
        return columns

    @cached_property
    def main_columns(self) -> dict[str, str]:
        """The first column of each task that is shown, by task name."""
        main: dict[str, str] = {}
        for name, column in self.shown_columns.items():
            main.setdefault(column.task, name)
        return main


def config_file(name: str) -> Path:
    """The file of a row's config: a file, or the name of one that ships, such as `methods/pals`."""
    return find_config(name)


def absolute_reference(name: str) -> str:
    """A local file, or one task of it (`FILE#TASK`), by its absolute path; other names stay."""
    file, mark, task = name.partition("#")
    return f"{Path(file).resolve()}{mark}{task}" if Path(file).is_file() else name


def _task_file(name: str, folder: Path) -> Path:
    """A task file, or one task of a file with several (`FILE#TASK`)."""
    file, mark, task = name.partition("#")
    return Path(f"{find_config(file, folder)}{mark}{task}")
