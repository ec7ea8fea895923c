"""A table's definition: which runs answer a question. A YAML file in `experiments/tables/`."""

import json
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from mtl.metrics import Score
from mtl.tasks import Task
from mtl.text import DataError, explained, nearest

TABLES = Path(__file__).parent / "tables"
CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class Row:
    """What is trained alike for all tasks and seeds.

    Args:
        of: What a run is of: all tasks of the `suite`, one `task` alone, or the suite without a task that is `held_out`.
        tasks: Tasks of a run of the suite; all where absent.
        configs: Files under `configs/`, without their ending, such as `methods/pals`, in the order of `-c`.
        options: Options of the command by name, such as `{model.lr: 1.0e-4}`; `"{seed}"`, `"{task}"` and the size's values
            are filled in, and of a mapping by tasks a run of one task alone gets its own part.
        uses: Options whose value is the folder of a run of another row, such as `{model.init_from: meta}`: the one of the
            same seed, and of the same task where that row has one for each.
        grid: Options with several values each, or one of the size's values that is a list; the run is taken that validates
            best.
        command: What trains it; `score-prototypes` writes scores, and `none` is for what is tested without training.
        tested: Whether the `best` checkpoint is tested, or the `last`, or `none`: a row that others use.
        seed: Its only seed, where all others use it.
        shown: Whether it is a line of the table.
        sizes: Sizes that have it; all where absent.
        against: The row that it is compared with; the table's baseline where absent.
        resources: What its runs get on a cluster that others do not, by submitit's names, such as `{mem_gb: 64}`.
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


@dataclass(frozen=True)
class Search:
    """Values to try for every row, and how often.

    Args:
        trials: Trials of each row.
        space: Options and their values: a list to choose from, or `{low: 1.0e-5, high: 1.0e-3, log: true}`.
        seed: Decides what is tried.
    """

    trials: int
    space: dict[str, list[Any] | dict[str, Any]]
    seed: int = 0


@dataclass(frozen=True)
class Size:
    """How large the runs are.

    Args:
        backbone: The pretrained encoder; `bundled` is the MiniLM that comes as a package.
        options: Options of every run, such as `{data.max_rows: 400}`.
        columns: Columns, where they are other than the table's.
        values: What stands for a name in braces in the rows' options, such as `{epochs: 3}` for `"{epochs}"`.
        seeds: Seeds of every row.
        search: Where hyper-parameters are searched: the same number of trials for every row.
        about: What it is, and how long it takes where.
    """

    backbone: str
    options: dict[str, Any] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    search: Search | None = None
    about: str = ""


@dataclass(frozen=True)
class Published:
    """Numbers of a paper.

    Args:
        source: Where they stand.
        verified: Whether somebody has compared them with the paper.
        rows: For each row and column the figure as the paper writes it.
    """

    source: str
    verified: bool = False
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A question, and the runs that answer it.

    Args:
        question: What the table asks, in a sentence.
        suite: The suite's name in `configs/suites/`, or a file.
        rows: The table's rows by name, in its order; a row stands after those that it uses.
        baseline: The row that the others are compared with; one run for each task.
        sizes: `paper` and `mini`.
        columns: Tasks to show, such as `rte`, or single metrics of them, such as `mrpc.f1`, which then also selects the
            checkpoint where it is the task's first; all of the suite's tasks where absent.
        published: The paper's numbers.
        budget: What every row's runs have alike, in words, such as `4 passes over each task's rows`.
        crossed: Two sets of parts of rows, such as schemes and methods: each of the one with each of the other is a row too,
            `SCHEME, METHOD`, unless it is written out among the rows.

    Raises:
        ValueError: If the rows contradict one another.
    """

    question: str
    suite: str
    rows: dict[str, Row]
    baseline: str
    sizes: dict[str, Size]
    budget: str
    columns: list[str] = field(default_factory=list)
    published: Published | None = None
    crossed: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.baseline not in self.rows:
            raise ValueError(
                f"baseline {self.baseline!r} is none of the rows {list(self.rows)}.{nearest(self.baseline, self.rows)}"
            )
        before: set[str] = set()
        for name, row in self.rows.items():
            for used in (*row.uses.values(), *([row.against] if row.against else [])):
                if used not in before:
                    raise ValueError(f"rows: {name!r} uses {used!r}, which is no row before it.{nearest(used, before)}")
            before.add(name)
        for name in self.published.rows if self.published else ():
            if name not in self.rows:
                raise ValueError(f"published: {name!r} is no row.{nearest(name, self.rows)}")
        if not any(row.of == "task" and row.shown and row.command == "fit" and not row.uses for row in self.rows.values()):
            raise ValueError("rows: none trains each task alone (`of: task`); every comparison needs single-task training")
        if self.crossed and len(self.crossed) != 2:
            raise ValueError(f"crossed: two sets of parts of rows, not {len(self.crossed)}")

    @classmethod
    def read(cls, name: str) -> Self:
        """The table of a name in `experiments/tables/`, or of a file.

        Raises:
            DataError: If there is none, or a field cannot be used.
        """
        path = Path(name) if name.endswith(".yaml") else TABLES / f"{name}.yaml"
        if not path.is_file():
            known = [file.stem for file in TABLES.glob("*.yaml")]
            raise DataError(f"there is no table {name!r}.{nearest(name, known)} Tables are {', '.join(sorted(known))}.")
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        if (beside := path.parent / str(fields.get("suite"))).is_file():
            fields["suite"] = str(beside)
        fields["rows"] |= {name: row for name, row in _crossed(fields.get("crossed", {})) if name not in fields["rows"]}
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(cls, "table")
        try:
            table: Self = parser.instantiate(parser.parse_object({"table": fields})).table
        except (ArgumentError, ValueError, TypeError) as error:
            names = [part for kind in (Table, Row, Size, Search, Published) for part in kind.__dataclass_fields__]
            message = " ".join(str(error).split()).replace('Parser key "table.', 'Parser key "')
            raise DataError(f"{path}: {explained(message, names)}") from error
        table._check_files(path)
        return table

    def _check_files(self, path: Path) -> None:
        """Refuses files that are not there, before anything is trained."""
        if not self.suite_file.is_file():
            known = [file.stem for file in (CONFIGS / "suites").glob("*.yaml")]
            where = f"a file is looked for beside {path} and in {Path.cwd()}; by name there are {', '.join(sorted(known))}"
            raise DataError(f"{path}: suite: there is no {self.suite!r}.{nearest(self.suite, known)} {where}")
        for name, row in self.rows.items():
            for config in row.configs:
                if not (CONFIGS / f"{config}.yaml").is_file():
                    known = [str(file.relative_to(CONFIGS).with_suffix("")) for file in CONFIGS.rglob("*.yaml")]
                    raise DataError(f"{path}: rows: {name}: there is no configs/{config}.yaml.{nearest(config, known)}")

    @property
    def suite_file(self) -> Path:
        """Where the suite stands."""
        return Path(self.suite) if self.suite.endswith(".yaml") else CONFIGS / "suites" / f"{self.suite}.yaml"

    @cached_property
    def task_files(self) -> dict[str, Path]:
        """The suite's task files by the tasks' names."""
        listed = yaml.safe_load(self.suite_file.read_text(encoding="utf-8"))["tasks"]
        files = [self.suite_file.parent / file for file in listed]
        return {Task.read(file).name: file for file in files}

    @cached_property
    def score(self) -> Score | None:
        """The suite's own score, where it has one."""
        found = yaml.safe_load(self.suite_file.read_text(encoding="utf-8")).get("score")
        return Score(found) if found else None

    @cached_property
    def shown(self) -> dict[str, tuple[str, str | None]]:
        """For each column its task, and its metric where it is not the task's score."""
        names = self.columns or list(self.task_files)
        return {name: (name.partition(".")[0], name.partition(".")[2] or None) for name in names}

    @cached_property
    def tasks(self) -> dict[str, str]:
        """For each task that is shown its first column."""
        found: dict[str, str] = {}
        for column, (task, _) in self.shown.items():
            found.setdefault(task, column)
        return found


def _crossed(parts: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of one set with every part of the others: name and fields of a row."""
    for chosen in product(*(named.items() for named in parts.values())) if parts else ():
        row: dict[str, Any] = {}
        for _, part in chosen:
            row |= {name: _joined(name, row.get(name), value) for name, value in (part or {}).items()}
        yield ", ".join(name for name, _ in chosen), row


def _joined(name: str, one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return one | other
    if isinstance(one, list) and isinstance(other, list):
        return [value for value in one if value in other] if name == "sizes" else one + other
    return other


class Run(NamedTuple):
    """A run of a table.

    Attributes:
        row: Its row.
        seed: Its seed.
        task: Its task, or the one held out; None where it is of the suite.
        choice: What it takes of the grid.
    """

    row: str
    seed: int
    task: str | None
    choice: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        parts = [self.row, f"seed {self.seed}", self.task or "", *(f"{option} {value}" for option, value in self.choice)]
        return ", ".join(filter(None, parts))


class Plan:
    """The runs of a table at a size.

    Args:
        table: The table.
        size: The size's name.
        seeds: Seeds; those of the size where empty.
        options: Options of every run that come last, as words of the command.
    """

    def __init__(self, table: Table, size: str, seeds: tuple[int, ...] = (), options: tuple[str, ...] = ()) -> None:
        if size not in table.sizes:
            raise DataError(f"there is no size {size!r}; sizes are {', '.join(table.sizes)}")
        self.name, self.size, self.more = size, table.sizes[size], options
        rows = {name: row for name, row in table.rows.items() if not row.sizes or size in row.sizes}
        published = table.published
        if published:
            published = replace(published, rows={name: of for name, of in published.rows.items() if name in rows})
        try:
            self.table = replace(table, columns=self.size.columns or table.columns, rows=rows, published=published)
        except ValueError as error:  # a row that others need is not of this size
            raise DataError(f"size {size!r}: {error}") from error
        self.seeds = seeds or tuple(self.size.seeds)
        self.files = table.task_files
        if len(set(self.seeds)) < len(self.seeds):
            raise DataError(f"seeds {list(self.seeds)}: each once")
        if unknown := [task for task in self.table.tasks if task not in self.files]:
            raise DataError(f"columns: {unknown[0]!r} is not in the suite {table.suite!r}.{nearest(unknown[0], self.files)}")
        for column, (task, metric) in self.table.shown.items():
            if metric is not None and metric not in (metrics := Task.read(self.files[task]).metrics):
                raise DataError(f"columns: {column}: the task's metrics are {', '.join(metrics)}.{nearest(metric, metrics)}")

    def with_row(self, name: str, row: Row) -> Self:
        """The plan with another row in the place of one."""
        changed = copy(self)
        changed.table = replace(self.table, rows=self.table.rows | {name: row})
        return changed

    def runs(self, row: str) -> Iterator[Run]:
        """All runs of a row, those of its grid included."""
        spec = self.table.rows[row]
        tasks = [None] if spec.of == "suite" else list(self.table.tasks)
        seeds = self.seeds if spec.seed is None else [spec.seed]
        grid = {option: self.size.values[found[1:-1]] if isinstance(found, str) else found for option, found in spec.grid.items()}
        choices = [tuple(zip(grid, values, strict=True)) for values in product(*grid.values())]
        for seed, task, choice in product(seeds, tasks, choices):
            yield Run(row, seed, task, choice)

    def every(self) -> list[Run]:
        """The runs of all rows, each after those that it uses."""
        return [run for row in self.table.rows for run in self.runs(row)]

    def used(self, run: Run) -> dict[str, list[Run]]:
        """For each option that names another run the candidates: several where that row has a grid."""
        found = {}
        for option, row in self.table.rows[run.row].uses.items():
            spec = self.table.rows[row]
            found[option] = [
                other
                for other in self.runs(row)
                if other.seed == (run.seed if spec.seed is None else spec.seed) and other.task in (None, run.task)
            ]
        return found

    def needs(self, run: Run) -> list[Run]:
        """The runs that one uses."""
        return [other for used in self.used(run).values() for other in used]

    def all_needs(self, run: Run) -> list[Run]:
        """Those, and what they use in turn, each after what it uses."""
        found: list[Run] = []
        for need in self.needs(run):
            found += [other for other in (*self.all_needs(need), need) if other not in found]
        return found

    def words(self, run: Run, folders: dict[str, str]) -> list[str]:
        """Options of the run's command.

        Args:
            run: The run.
            folders: For each option that names another run that one's folder.
        """
        spec = self.table.rows[run.row]
        tasks = [run.task] if spec.of == "task" and run.task else spec.tasks or list(self.files)
        words = [f"--tasks+={self.files[task]}" for task in tasks]
        words += ["--backbone", self.size.backbone]
        for config in spec.configs:
            words += ["-c", str(CONFIGS / f"{config}.yaml")]
        for options in (self.size.options, spec.options, dict(run.choice), folders):
            for name, value in options.items():
                if isinstance(value, dict) and set(value) <= set(self.files):
                    value = {task: of for task, of in value.items() if task in tasks}
                words += [f"--{name}", word_of(value, {"seed": run.seed, "task": run.task, **self.size.values})]
        if spec.of == "suite" and not spec.tasks and spec.command == "fit" and (score := self.table.score):
            words += ["--score", score.text]
        if spec.of == "task" and run.task and spec.command == "fit" and "." in (column := self.table.tasks[run.task]):
            words += ["--score", column]
        return [*words, "--seed_everything", str(run.seed), *self.more]


def word_of(value: Any, values: dict[str, Any]) -> str:
    """An option's value as a word of the command.

    Args:
        value: The value.
        values: What is filled in for names in braces.
    """
    if isinstance(value, str) and value[:1] == "{" and value[1:-1] in values:
        value = values[value[1:-1]]
    if not isinstance(value, str):
        return json.dumps(value)
    for name, filled in values.items():
        value = value.replace(f"{{{name}}}", str(filled))
    return value
