"""A table's definition: which runs answer a question. A YAML file in `experiments/tables/`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from mtl.errors import UserError, did_you_mean, explain_parse_error
from mtl.metrics import Score
from mtl.tasks import Task

TABLES = Path(__file__).parent / "tables"
CONFIGS = Path(__file__).parents[1] / "configs"
# The column of a row's mean over tasks, or of the suite's own score.
MEAN = "mean"


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
        options: Options of every run, such as `{data.max_examples: 400}`.
        tasks: The suite's tasks that it has; all where absent.
        columns: Columns, where they are other than the table's of these tasks.
        values: What stands for a name in braces in the rows' options, such as `{epochs: 3}` for `"{epochs}"`.
        seeds: Seeds of every row.
        search: Where hyper-parameters are searched: the same number of trials for every row.
        about: What it is, and how long it takes where.
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

    A file that begins with `like: NAME` says only in what its table differs from that one.

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
                f"baseline {self.baseline!r} is none of the rows {list(self.rows)}.{did_you_mean(self.baseline, self.rows)}"
            )
        before: set[str] = set()
        for name, row in self.rows.items():
            for used in (*row.uses.values(), *([row.against] if row.against else [])):
                if used not in before:
                    raise ValueError(
                        f"rows: {name!r} uses {used!r}, which is no row before it.{did_you_mean(used, before)}"
                    )
            before.add(name)
        for name in self.published.rows if self.published else ():
            if name not in self.rows:
                raise ValueError(f"published: {name!r} is no row.{did_you_mean(name, self.rows)}")
        if not any(
            row.of == "task" and row.shown and row.command == "fit" and not row.uses
            for row in self.rows.values()
        ):
            raise ValueError(
                "rows: none trains each task alone (`of: task`); every comparison needs single-task training"
            )
        if self.crossed and len(self.crossed) != 2:
            raise ValueError(f"crossed: two sets of parts of rows, not {len(self.crossed)}")

    @classmethod
    def read(cls, name: str) -> Self:
        """The table of a name in `experiments/tables/`, or of a file.

        Raises:
            UserError: If there is none, or a field cannot be used.
        """
        path, fields = _read(name)
        if like := fields.pop("like", None):
            _, others = _read(like)
            if "like" in others:
                raise UserError(
                    f"{path}: like: {like!r} is itself like {others['like']!r}; name that one"
                )
            fields = _laid_over(others, fields)
        fields["rows"] |= {
            name: row
            for name, row in _crossed(fields.get("crossed", {}))
            if name not in fields["rows"]
        }
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(cls, "table")
        try:
            table: Self = parser.instantiate(parser.parse_object({"table": fields})).table
        except (ArgumentError, ValueError, TypeError) as error:
            names = [
                part
                for kind in (Table, Row, Size, Search, Published)
                for part in kind.__dataclass_fields__
            ]
            message = " ".join(str(error).split()).replace('Parser key "table.', 'Parser key "')
            raise UserError(f"{path}: {explain_parse_error(message, names)}") from error
        table._check_files(path)
        return table

    def _check_files(self, path: Path) -> None:
        """Refuses files that are not there, before anything is trained."""
        if not self.suite_file.is_file():
            known = [file.stem for file in (CONFIGS / "suites").glob("*.yaml")]
            where = f"a file is looked for beside {path} and in {Path.cwd()}; by name there are {', '.join(sorted(known))}"
            raise UserError(
                f"{path}: suite: there is no {self.suite!r}.{did_you_mean(self.suite, known)} {where}"
            )
        for name, row in self.rows.items():
            for config in row.configs:
                if not (CONFIGS / f"{config}.yaml").is_file():
                    known = [
                        str(file.relative_to(CONFIGS).with_suffix(""))
                        for file in CONFIGS.rglob("*.yaml")
                    ]
                    raise UserError(
                        f"{path}: rows: {name}: there is no configs/{config}.yaml.{did_you_mean(config, known)}"
                    )

    @property
    def suite_file(self) -> Path:
        """Where the suite stands."""
        return (
            Path(self.suite)
            if self.suite.endswith(".yaml")
            else CONFIGS / "suites" / f"{self.suite}.yaml"
        )

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


def _read(name: str) -> tuple[Path, dict[str, Any]]:
    """A table's file, and what it says."""
    path = Path(name) if name.endswith(".yaml") else TABLES / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in TABLES.glob("*.yaml")]
        raise UserError(
            f"there is no table {name!r}.{did_you_mean(name, known)} Tables are {', '.join(sorted(known))}."
        )
    fields: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    if (beside := path.parent / str(fields.get("suite"))).is_file():
        fields["suite"] = str(beside)
    return path, fields


def _laid_over(one: Any, other: Any) -> Any:
    """The other; of two mappings both, the other's values over the one's."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return other
    return one | {name: _laid_over(one.get(name), value) for name, value in other.items()}


def _crossed(parts: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of one set with every part of the others: name and fields of a row."""
    for chosen in product(*(named.items() for named in parts.values())) if parts else ():
        row: dict[str, Any] = {}
        for _, part in chosen:
            row |= {
                name: _joined(name, row.get(name), value) for name, value in (part or {}).items()
            }
        yield ", ".join(name for name, _ in chosen), row


def _joined(name: str, one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return one | other
    if isinstance(one, list) and isinstance(other, list):
        return [value for value in one if value in other] if name == "sizes" else one + other
    return other
