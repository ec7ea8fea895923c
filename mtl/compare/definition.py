"""The definition of a comparison: which runs answer a question.

One YAML file per table in `experiments/tables/`.
"""

from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from jsonargparse import ArgumentError, ArgumentParser

from mtl.compare.definition_file import read_fields
from mtl.errors import UserError, explain_parse_error, reject_unknown
from mtl.metrics import Score
from mtl.system.package_data import CONFIGS
from mtl.tasks import Task
from mtl.user_files import read_yaml

# The column that shows a row's mean over tasks, or the suite's own score.
MEAN = "mean"


class Column(NamedTuple):
    """What a column of the table shows.

    Attributes:
        task: The task.
        metric: One of the task's metrics; None for the task's score, the mean of its metrics.
    """

    task: str
    metric: str | None


@dataclass(frozen=True)
class Variant:
    """A row of the results table: how its models are trained, for every task and seed.

    Args:
        of: What one run trains: all tasks of the `suite`, one `task`, or the suite without one task
            (`held_out`).
        tasks: Tasks of a run of the suite. Default: all.
        configs: Files under `configs/` without their suffix, such as `methods/pals`, in the order
            of the `-c` options.
        options: Command-line options by name, such as `{model.lr: 1.0e-4}`. `"{seed}"`, `"{task}"`
            and the size's values are filled in. If a value is a mapping by task, a run of one task
            gets only its own entry.
        uses: Options whose value is the run folder of another row, such as `{model.init_from:
            meta}`: the run with the same seed, and with the same task if that row has one run per
            task.
        grid: Options with several values each, or the name of one of the size's values that is a
            list. The run with the best validation score is used.
        command: The training command. `score-prototypes` writes prototypical scores; `none` tests
            without training.
        tested: The checkpoint that is tested: `best`, `last`, or `none` for a row that only other
            rows use.
        seed: The only seed of this row. Default: the seeds of the size.
        shown: Whether the results table shows the row.
        sizes: Sizes that have this row. Default: all.
        against: The row that this row is compared with. Default: the table's baseline.
        resources: Cluster resources that differ from the defaults, by submitit's names, such as
            `{mem_gb: 64}`.
    """

    of: Literal["suite", "task", "held_out"] = "suite"
    tasks: list[str] = field(default_factory=list)
    configs: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    uses: dict[str, str] = field(default_factory=dict)
    grid: dict[str, list[Any] | str] = field(default_factory=dict)
    command: Literal["fit", "score-prototypes", "none"] = "fit"
    tested: Literal["best", "last", "none"] = "best"
    seed: int | None = None
    shown: bool = True
    sizes: list[str] = field(default_factory=list)
    against: str | None = None
    resources: dict[str, Any] = field(default_factory=dict)

    @property
    def trains_single_tasks(self) -> bool:
        """Whether the row is shown and trains each task alone, from the pretrained encoder."""
        return self.of == "task" and self.shown and self.command == "fit" and not self.uses


@dataclass(frozen=True)
class Search:
    """Hyper-parameter search with the same number of trials for every row.

    Args:
        trials: Trials of each row.
        space: Options and their values: a list to choose from, or `{low: 1.0e-5, high: 1.0e-3, log:
            true}`.
        seed: Seed of the sampler.
    """

    trials: int
    space: dict[str, list[Any] | dict[str, Any]]
    seed: int = 0


@dataclass(frozen=True)
class Preset:
    """The scale at which a table is run.

    Args:
        backbone: The pretrained encoder; `bundled` is the MiniLM that is installed as a package.
        options: Options of every run, such as `{data.max_examples: 400}`.
        tasks: Tasks of the suite at this size. Default: all.
        columns: Columns at this size. Default: the table's columns of these tasks.
        values: Values filled in for names in braces in the rows' options, such as `{epochs: 3}` for
            `"{epochs}"`.
        seeds: Seeds of every row.
        search: Hyper-parameter search. Default: none.
        about: Description: encoder, data, and how long the table takes.
    """

    backbone: str
    options: dict[str, Any] = field(default_factory=dict)
    tasks: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    search: Search | None = None
    about: str = ""


@dataclass(frozen=True)
class Published:
    """Published results.

    Args:
        source: The publication.
        verified: Whether the numbers were checked against the publication.
        rows: For each row and column the figure as published.
    """

    source: str
    verified: bool = False
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """A question and the runs that answer it.

    A file with `like: NAME` inherits from the table of that name and lists only what differs.

    Args:
        question: The question that the table answers, in one sentence.
        suite: Name of a suite in `configs/suites/`, or a file.
        rows: The rows by name, in the order shown. A row comes after the rows that it uses.
        baseline: The row that the others are compared with; one run per task.
        sizes: `paper` and `mini`.
        budget: What all rows have in common, in words, such as `4 passes over each task's
            examples`.
        columns: Tasks, such as `rte`, or single metrics, such as `mrpc.f1`. The first metric listed
            for a task also selects its checkpoint. Default: all tasks of the suite.
        published: Published results.
        crossed: Two sets of row fragments, such as schemes and methods. Every combination becomes a
            row named `SCHEME, METHOD`, unless `rows` already has one of that name.

    Raises:
        UserError: If the rows contradict one another.
    """

    question: str
    suite: str
    rows: dict[str, Variant]
    baseline: str
    sizes: dict[str, Preset]
    budget: str
    columns: list[str] = field(default_factory=list)
    published: Published | None = None
    crossed: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        reject_unknown("baseline", "row", [self.baseline], self.rows)
        defined: list[str] = []
        for name, row in self.rows.items():
            for other in (*row.uses.values(), *([row.against] if row.against else [])):
                reject_unknown(f"rows: {name}", "row", [other], self.rows)
                if other not in defined:
                    raise UserError(f"rows: {name} needs {other!r}; define {other!r} before it")
            defined.append(name)
        reject_unknown("published", "row", self.published.rows if self.published else (), self.rows)
        if not any(row.trains_single_tasks for row in self.rows.values()):
            raise UserError(
                "rows: no row trains each task alone; every comparison needs one with `of: task`"
            )
        if self.crossed and len(self.crossed) != 2:
            raise UserError(f"crossed: expected two sets of row fragments, got {len(self.crossed)}")

    @classmethod
    def read(cls, name: str) -> Self:
        """Reads a table by its name in `experiments/tables/`, or from a file.

        Raises:
            UserError: If there is no such table, or a field is invalid.
        """
        path, contents = read_fields(name)
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(cls, "table")
        try:
            table: Self = parser.instantiate(parser.parse_object({"table": contents})).table
            table._check_files(path)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        except (ArgumentError, ValueError, TypeError) as error:
            parts = (Experiment, Variant, Preset, Search, Published)
            names = [part_field.name for part in parts for part_field in fields(part)]
            message = " ".join(str(error).split()).replace('Parser key "table.', 'Parser key "')
            raise UserError(f"{path}: {explain_parse_error(message, names)}") from error
        return table

    def _check_files(self, path: Path) -> None:
        """Checks that the suite and all configs exist, before anything is trained."""
        if not self.suite_file.is_file():
            suites = sorted(file.stem for file in (CONFIGS / "suites").glob("*.yaml"))
            if self.suite.endswith(".yaml"):
                raise UserError(
                    f"suite: no file {self.suite!r} in {path.parent} or {Path.cwd()}. "
                    f"Give a file, or one of: {', '.join(suites)}."
                )
            reject_unknown("suite", "suite", [self.suite], suites)
        for name, row in self.rows.items():
            missing = [config for config in row.configs if not _config_file(config).is_file()]
            if missing:
                configs = [file.relative_to(CONFIGS) for file in CONFIGS.rglob("*.yaml")]
                known = sorted(str(config.with_suffix("")) for config in configs)
                reject_unknown(f"rows: {name}: configs", "config", missing, known)

    @property
    def suite_file(self) -> Path:
        """The suite's file."""
        named = CONFIGS / "suites" / f"{self.suite}.yaml"
        return Path(self.suite) if self.suite.endswith(".yaml") else named

    @cached_property
    def _suite_fields(self) -> dict[str, Any]:
        contents: dict[str, Any] = read_yaml(self.suite_file)
        return contents

    @cached_property
    def task_files(self) -> dict[str, Path]:
        """The suite's task files by task name."""
        files = [self.suite_file.parent / file for file in self._suite_fields["tasks"]]
        return {Task.read(file).name: file for file in files}

    @cached_property
    def suite_score(self) -> Score | None:
        """The suite's own score; None if it defines none."""
        score = self._suite_fields.get("score")
        return Score(score) if score else None

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


def _config_file(name: str) -> Path:
    return CONFIGS / f"{name}.yaml"
