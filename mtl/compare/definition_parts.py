"""The parts of a comparison's definition: columns, rows, search, size, published results."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple


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
        of: What one run trains: all tasks of the `suite`, one `task`, the suite without one task
            (`held_out`), or one of several groups of tasks, such as `[[a, b], [c]]`. A task of
            several groups has the score of the run with its best validation score.
        tasks: Tasks of a run of the suite. Default: all.
        configs: Files under `configs/` without their suffix, such as `methods/pals`, in the order
            of the `-c` options.
        options: Command-line options by name, such as `{model.lr: 1.0e-4}`. `"{seed}"`, `"{task}"`
            and the size's values are filled in. If a value is a mapping by task, a run of one task
            gets only its own entry.
        uses: Options whose value is the run folder of another row, such as `{model.init_from:
            meta}`: the run with the same seed, and with the same task if that row has one run per
            task. A run of the suite gets the list of that row's runs of all tasks. A row that
            merges has `{runs: ROW}`.
        grid: Options with several values each, or the name of one of the size's values that is a
            list. The run with the best validation score is used.
        command: The training command. `score-prototypes` writes prototypical scores; `merge` merges
            the runs of another row without training, and `options` are those of `mtl merge`;
            `none` tests without training.
        tested: The checkpoint that is tested: `best`, `last`, or `none` for a row that only other
            rows use.
        seed: The only seed of this row. Default: the seeds of the size.
        shown: Whether the results table shows the row.
        sizes: Sizes that have this row. Default: all.
        against: The row that this row is compared with. Default: the table's baseline.
        resources: Cluster resources that differ from the defaults, by submitit's names, such as
            `{mem_gb: 64}`.
        search: Search space of this row, in place of the common one; `{}`: this row is not tuned.
    """

    of: Literal["suite", "task", "held_out"] | list[list[str]] = "suite"
    tasks: list[str] = field(default_factory=list)
    configs: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    uses: dict[str, str] = field(default_factory=dict)
    grid: dict[str, list[Any] | str] = field(default_factory=dict)
    command: Literal["fit", "score-prototypes", "merge", "none"] = "fit"
    tested: Literal["best", "last", "none"] = "best"
    seed: int | None = None
    shown: bool = True
    sizes: list[str] = field(default_factory=list)
    against: str | None = None
    resources: dict[str, Any] = field(default_factory=dict)
    search: dict[str, list[Any] | dict[str, Any]] | None = None

    @property
    def trains_single_tasks(self) -> bool:
        """Whether the row is shown and trains each task alone, from the pretrained encoder."""
        return self.of == "task" and self.shown and self.command == "fit" and not self.uses

    @property
    def groups(self) -> list[list[str]]:
        """The groups of tasks with a run each; empty if runs are not of groups."""
        return self.of if isinstance(self.of, list) else []

    @property
    def merges_all_tasks(self) -> bool:
        """Whether the row merges the runs of one row, and has no fields that merging ignores."""
        others = (self.tasks, self.configs, self.search)
        return list(self.uses) == ["runs"] and self.of == "suite" and not any(others)


@dataclass(frozen=True)
class Front:
    """Fixed loss weights that the rows of a table are measured against.

    Every weighting is trained like `row`, with the same seeds, by the weighted mean of the losses
    and by the largest weighted loss (Chebyshev).

    Args:
        row: The row that trains with equal weights: its configs, options and tuned options are
            those of every weighting.
        draws: Weightings drawn from the simplex (a scrambled Sobol sequence), in addition to equal
            weights and to all weight on one task. A power of 2 covers the simplex best.
    """

    row: str
    draws: int = 8


@dataclass(frozen=True)
class Search:
    """Hyper-parameter search with the same number of trials for every row, on validation data.

    A row with one run per task is tuned for each task separately, with the same number of trials
    for each.

    Args:
        trials: Trials of each row; of a row with one run per task, of each task.
        space: Options and their values, for every row that has no `search` of its own: a list to
            choose from, or `{low: 1.0e-5, high: 1.0e-3, log: true}`. If all are lists with at most
            `trials` combinations, every combination is tried once; else Optuna chooses.
        seed: Seed with which the trials train, and of Optuna's sampler. It must not be one of the
            final seeds: otherwise the luck of the best trial counts as part of the result.
    """

    trials: int = 4
    space: dict[str, list[Any] | dict[str, Any]] = field(default_factory=dict)
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
