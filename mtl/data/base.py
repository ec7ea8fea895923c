"""What every sampling scheme shares: tasks' rows encoded, a loader to train on, a loader for each evaluation."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from mtl.data.augmentation import Augmentation
from mtl.data.encoding import EncodedSplit, Encoding, Plain, encode
from mtl.data.length_sorted import LengthSortedOrder
from mtl.data.loader import Loader, StepDataset
from mtl.data.order import Order, Permutation, Stream
from mtl.data.sources import Split, open_split
from mtl.errors import UserError, did_you_mean
from mtl.modules.backbone import load_tokenizer
from mtl.tasks import Task, check_tasks
from mtl.training.hparams import keep_hyperparameters

# Rows set aside or left out are chosen with this key, whatever the run's seed, so that runs stay comparable.
FIXED_KEY = 0


class Evaluation(NamedTuple):
    """One split to evaluate.

    Attributes:
        task: The task's place in the list of tasks.
        split: The split's name in the source.
        name: Its name in results: the task's, and what tells its splits apart (`mnli/matched`).
    """

    task: int
    split: str
    name: str


class MultiTaskDataModule(LightningDataModule, ABC):
    """Rows of several tasks; a sampling scheme is a subclass that overrides `order`.

    Args:
        tasks: The tasks, in the order in which batches hold them.
        backbone: Name or directory of the pretrained model whose tokenizer is used, or `NAME@REVISION`.
        root: Folder whose sub-folders, named after the tasks, hold the rows in place of the tasks' own sources.
        batch_size: Rows in a training batch, of all processes together; of each task, where a batch holds every task.
        eval_batch_size: Rows in an evaluation batch, of all processes together.
        max_length: Longest row in tokens; longer ones are cut and counted.
        max_examples: Training rows of a task at most, chosen at random but the same in every run; or such a number for each task by
            name, `{sst2: 500}`. All where absent.
        holdout: Share of the training rows set aside to select the checkpoint, for tasks whose validation split is
            also their test split (GLUE, whose test labels are hidden), so that no test row selects anything.
        group_by_length: Whether rows of similar length meet in training, which spares padding. Neighbouring batches
            exchange rows of a task; which task is drawn when, and each epoch's rows, stay the same.
        seed: Decides the order of rows. On the command line, `--seed_everything` sets it.
        num_workers: Processes that prepare batches ahead; 0 prepares them in the training process.
        cache: Folder of the encoded rows; may be deleted at any time.
        encoding: How a row becomes numbers; as the tokenizer has it where absent.
        augment: For each task by name what is added to its training rows, such as `{quora: {swap: 0.4}}`.

    Raises:
        UserError: If the tasks or their rows cannot be used, before training starts.
    """

    def __init__(
        self,
        tasks: list[Task],
        backbone: str,
        root: Path | None = None,
        batch_size: int = 32,
        eval_batch_size: int = 64,
        max_length: int = 128,
        max_examples: int | dict[str, int] | None = None,
        holdout: float = 0.0,
        group_by_length: bool = True,
        seed: int = 42,
        num_workers: int = 0,
        cache: Path = Path(".cache/encoded"),
        encoding: Encoding | None = None,
        augment: dict[str, Augmentation] | None = None,
    ) -> None:
        super().__init__()
        keep_hyperparameters(self, inspect.currentframe())
        self.tasks = check_tasks(tasks)
        self.root, self.cache = root and Path(root), Path(cache)
        self.batch_size, self.eval_batch_size, self.num_workers = (
            batch_size,
            eval_batch_size,
            num_workers,
        )
        self.max_length, self.max_examples, self.holdout, self.seed = (
            max_length,
            max_examples,
            holdout,
            seed,
        )
        self._most = _most_rows(max_examples, self.tasks)
        self.group_by_length = group_by_length
        self.encoding = encoding or Plain()
        self.augment = _augmentations(augment or {}, self.tasks)
        self.tokenizer = load_tokenizer(backbone)
        self.train_tables: dict[int, EncodedSplit] = {}
        self.eval_tables: list[EncodedSplit] = []
        self._opened: list[Evaluation] = []
        self._sources: dict[
            Path, Callable[[], Split]
        ] = {}  # of each table's file what its rows were before
        self.measured: dict[
            str, Tensor
        ] = {}  # what the scheme saw in the last step, each a scalar, to be logged

    @property
    @abstractmethod
    def tasks_per_batch(self) -> Literal["one", "some", "all"]:
        """How many of the tasks a training batch holds."""

    @abstractmethod
    def order(self, streams: Sequence[Stream]) -> Order:
        """What each training step draws.

        Args:
            streams: The batches of each task that the scheme trains on.
        """

    @property
    def sizes(self) -> dict[str, int]:
        """Training rows of each task trained on; known once `setup("fit")` has run."""
        return {self.tasks[place].name: len(table) for place, table in self.train_tables.items()}

    @property
    def fingerprints(self) -> dict[str, str]:
        """For each split that is open a fingerprint of its rows' file or data set, by `<task>, <split>`."""
        trained = {
            (self.tasks[place].name, self.tasks[place].splits.train): table
            for place, table in self.train_tables.items()
        }
        opened = [(self.tasks[found.task].name, found.split) for found in self._opened]
        tables = trained | dict(zip(opened, self.eval_tables, strict=True))
        return {
            f"{task}, {split}": table.report.fingerprint[:12]
            for (task, split), table in tables.items()
        }

    def source_of(self, name: str) -> Split:
        """The rows of an evaluation that is open, as they were before they became numbers.

        Args:
            name: Its name in results, such as `mnli/matched`.
        """
        opened = [evaluation.name for evaluation in self._opened]
        return self._sources[self.eval_tables[opened.index(name)].path]()

    def streams(self) -> list[Stream]:
        """The batches of each task trained on; known once `setup("fit")` has run."""
        return [
            Stream(
                place,
                len(table),
                self.batch_size,
                self.seed,
                table.lengths if self.group_by_length else None,
            )
            for place, table in self.train_tables.items()
        ]

    def trains_on(self, task: Task) -> bool:
        """Whether the scheme draws training rows of a task; all of them unless it says otherwise."""
        return True

    def evaluations(self, stage: str) -> list[Evaluation]:
        """The splits that a stage (`fit`, `validate`, `test` or `predict`) evaluates, in the order of their loaders."""
        found = []
        for place, task in enumerate(self.tasks):
            splits = {"test": task.splits.test, "predict": task.splits.predict}.get(
                stage, task.splits.validation
            )
            if self.sets_aside(task) and stage in ("fit", "validate"):
                found.append(Evaluation(place, task.splits.train, task.name))
            else:
                found += [Evaluation(place, split, _name(task, split, splits)) for split in splits]
        return found

    def prepare_data(self) -> None:
        """Encodes what the run needs; in a run of several processes, one does it and the others wait."""
        assert (
            self.trainer is not None and self.trainer.state.fn is not None
        )  # Lightning calls this
        self._open(self.trainer.state.fn.value)

    def setup(self, stage: str) -> None:
        """Opens the encoded rows and says how many there are, and how many were cut."""
        self.train_tables, self.eval_tables = self._open(stage)
        evaluations = self._opened = self.evaluations(stage)
        if stage == "fit":
            for place, table in self.train_tables.items():
                rank_zero_info(
                    _summary(f"{self.tasks[place].name}, training", table, self._longest(place))
                )
        for evaluation, table in zip(evaluations, self.eval_tables, strict=True):
            rank_zero_info(
                _summary(
                    f"{evaluation.name}, {evaluation.split}", table, self._longest(evaluation.task)
                )
            )

    def _longest(self, place: int) -> int:
        return self.encoding.longest(self.tasks[place], self.max_length)

    def train_dataloader(self) -> Loader:
        """Batches in the scheme's order, from where the run stands."""
        return self._loader(self.order(self.streams()), self.train_tables, "train", self._position)

    def val_dataloader(self) -> list[Loader]:
        """A loader for each task and validation split, in the order of `evaluations`; every row once."""
        return self._eval_loaders("validate")

    def test_dataloader(self) -> list[Loader]:
        """A loader for each task and test split, in the order of `evaluations`; every row once."""
        return self._eval_loaders("test")

    def predict_dataloader(self) -> list[Loader]:
        """A loader for each task and split to predict, in the order of `evaluations`; every row once."""
        return self._eval_loaders("predict")

    def _loader(
        self,
        order: Order,
        tables: Mapping[int, EncodedSplit],
        name: str,
        position: Callable[[], tuple[int, int]],
    ) -> Loader:
        padding = {
            "input_ids": int(self.tokenizer.pad_token_id),
            "token_type_ids": int(self.tokenizer.pad_token_type_id),
        }
        steps = partial(
            StepDataset, order, tables, [task.name for task in self.tasks], padding, name
        )
        return Loader(steps, order.steps, position, self._place, self.num_workers)

    def training_example_loaders(self) -> dict[str, Loader]:
        """For each task trained on a loader of its training rows, every row once; fills `train_tables`, and needs no setup."""
        self.train_tables = {
            place: self._train_table(task)
            for place, task in enumerate(self.tasks)
            if self.trains_on(task)
        }
        return {
            self.tasks[place].name: self._once(place, table, "train")
            for place, table in self.train_tables.items()
        }

    def _eval_loaders(self, stage: str) -> list[Loader]:
        tables = zip(self.evaluations(stage), self.eval_tables, strict=True)
        return [self._once(evaluation.task, table, evaluation.name) for evaluation, table in tables]

    def _once(self, place: int, table: EncodedSplit, name: str) -> Loader:
        order = LengthSortedOrder(place, table.lengths, self.eval_batch_size)
        return self._loader(order, {place: table}, name, lambda: (0, 0))

    def _position(self) -> tuple[int, int]:
        # `ready` counts batches consumed; `completed` is one behind in a checkpoint written at the end of a step.
        trainer = self.trainer
        return (
            (trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready)
            if trainer
            else (0, 0)
        )

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _open(self, stage: str) -> tuple[dict[int, EncodedSplit], list[EncodedSplit]]:
        """Tables to train on (for `fit`), by the task's place, and to evaluate, encoded first where they are not yet."""
        trained = [
            place
            for place, task in enumerate(self.tasks)
            if stage == "fit" and self.trains_on(task)
        ]
        training = {place: self._train_table(self.tasks[place]) for place in trained}
        return training, [
            self._eval_table(evaluation, stage) for evaluation in self.evaluations(stage)
        ]

    def _train_table(self, task: Task) -> EncodedSplit:
        table = self._table(
            task, task.splits.train, self.root, augmentation=self.augment.get(task.name)
        )
        rows = int((table.numbers >= 0).sum())
        start = self._aside(task, rows)
        return _part(table, start, min(rows, start + self._most.get(task.name, rows)))

    def _eval_table(self, evaluation: Evaluation, stage: str) -> EncodedSplit:
        task = self.tasks[evaluation.task]
        table = self._table(task, evaluation.split, self.root, labelled=stage != "predict")
        if self.sets_aside(task) and stage in ("fit", "validate"):
            return _part(table, 0, self._aside(task, len(table)))
        return table

    def sets_aside(self, task: Task) -> bool:
        """Whether the task's checkpoint is selected on training rows set aside, not on its validation split."""
        return self.holdout > 0 and task.splits.validation == task.splits.test

    def _aside(self, task: Task, size: int) -> int:
        return max(1, round(size * self.holdout)) if self.sets_aside(task) else 0

    def _table(
        self,
        task: Task,
        split: str,
        root: Path | None,
        labelled: bool = True,
        augmentation: Augmentation | None = None,
    ) -> EncodedSplit:
        path = encode(
            task,
            split,
            tokenizer=self.tokenizer,
            encoding=self.encoding,
            max_length=self.max_length,
            cache=self.cache,
            root=root,
            labelled=labelled,
            augmentation=augmentation,
            seed=self.seed,
        )
        self._sources[path] = partial(open_split, task, split, root)
        return EncodedSplit(path)


def _part(table: EncodedSplit, start: int, end: int) -> EncodedSplit:
    """Rows of a table from a place to another in a random order that is the same in every run, and what was made of them."""
    rows = np.flatnonzero(table.numbers >= 0)
    if start == 0 and end == len(rows):
        return table
    chosen = rows[Permutation(len(rows), [FIXED_KEY])(np.arange(start, end))]
    made = np.flatnonzero((table.numbers < 0) & np.isin(-1 - table.numbers, table.numbers[chosen]))
    return EncodedSplit(table.path, np.sort(np.concatenate([chosen, made])))


def _most_rows(given: int | Mapping[str, int] | None, tasks: list[Task]) -> dict[str, int]:
    """For each task with a limit its number of training rows at most."""
    names = [task.name for task in tasks]
    most = dict.fromkeys(names, given) if isinstance(given, int) else dict(given or {})
    for name, rows in most.items():
        if name not in names:
            raise UserError(
                f"max_examples: {name!r} is none of the tasks {names}.{did_you_mean(name, names)}"
            )
        if rows < 1:
            raise UserError(f"max_examples {rows}: give 1 or more, or leave it out for all rows")
    return most


def _augmentations(
    augment: Mapping[str, Augmentation | dict[str, Any]], tasks: list[Task]
) -> dict[str, Augmentation]:
    names = {task.name: task for task in tasks}
    found = {}
    for name, given in augment.items():
        if name not in names:
            raise UserError(
                f"augment: {name!r} is none of the tasks {list(names)}.{did_you_mean(name, names)}"
            )
        found[name] = Augmentation(**given) if isinstance(given, dict) else given
        if found[name].swap and not names[name].pair:
            raise UserError(
                f"augment: {name}: swap exchanges the two texts of a pair, and {name!r} has one"
            )
    return found


def _name(task: Task, split: str, splits: list[str]) -> str:
    if len(splits) == 1:
        return task.name
    return f"{task.name}/{split.partition('_')[2] or split}"


def _summary(what: str, table: EncodedSplit, max_length: int) -> str:
    report = table.report
    parts = [
        f"{what}: {len(table):,} rows"
        + (f" of {report.rows:,}" if len(table) < report.rows else "")
    ]
    parts.append(f"{table.lengths.mean():.1f} tokens a row")
    whose = "of them" if len(table) == report.rows else f"of the {report.rows:,}"
    parts.append(f"{report.truncated:,} {whose} cut to {max_length} tokens")
    made = int((table.numbers < 0).sum())
    parts += [f"{made:,} of them made by augmentation"] if made else []
    parts += [f"{count:,} {fault} left out" for fault, count in report.dropped.items()]
    return ", ".join(parts)
