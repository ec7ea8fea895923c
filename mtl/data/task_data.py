"""Encoded examples of several tasks: which splits a stage reads, and how they are opened."""

import inspect
from pathlib import Path
from typing import ClassVar

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info

from mtl.bounds import Count, NonNegativeInt, ShareBelowOne, check_bounds
from mtl.data.augmentation import Augmentation
from mtl.data.data_warnings import log_data_warnings
from mtl.data.encoded_split import EncodedSplit
from mtl.data.encoding import Encoding, Plain, check_lengths
from mtl.data.evaluations import SELECTION_STAGES, Evaluation, stage_evaluations
from mtl.data.label_groups import LabelGroup
from mtl.data.label_groups import label_groups as find_label_groups
from mtl.data.sources import Split
from mtl.data.splits import (
    SplitOpener,
    example_limits,
    original_count,
    random_subset,
    task_augmentations,
)
from mtl.errors import UserError
from mtl.modules.backbone import load_config, load_tokenizer
from mtl.modules.backbone_checks import position_limit
from mtl.tasks import Task, check_tasks
from mtl.training.hparams import save_plain_hyperparameters


class TaskDataModule(LightningDataModule):
    """Examples of several tasks: everything about them that does not depend on the sampling scheme.

    Args:
        tasks: The tasks, in the order in which batches hold them.
        backbone: Name or directory of the pretrained model whose tokenizer is used, or
            `NAME@REVISION`.
        root: Folder with a sub-folder for each task, whose files replace the tasks' own sources.
        batch_size: Examples in a training batch, over all processes; of each task, if a batch holds
            every task.
        eval_batch_size: Examples in an evaluation batch, over all processes.
        max_length: Maximum number of tokens of an example; longer ones are truncated and counted.
        max_examples: Maximum number of training examples of each task, chosen at random by
            `subset_seed`; or a number for each task by name, `{sst2: 500}`. Default: all.
        subset_seed: Decides which examples `max_examples` and `holdout` choose: the same in every
            run, whatever its seed, unless you change it.
        holdout: Share of the training examples on which the checkpoint is selected, for tasks whose
            validation split is also their test split (GLUE, whose test labels are hidden), so that
            no test example selects anything.
        group_by_length: Whether examples of similar length meet in training, which reduces padding.
            Neighbouring batches exchange examples of a task; which task is drawn when, and each
            epoch's examples, stay the same.
        seed: Decides the order of examples. On the command line, `--seed_everything` sets it.
        num_workers: Processes that prepare batches in advance; 0 prepares them in the training
            process.
        cache: Folder of the encoded examples; may be deleted at any time.
        encoding: How an example becomes token ids. Default: as the tokenizer does it.
        augment: For each task by name what is added to its training examples, such as `{quora:
            {swap: 0.4}}`.
        label_groups: Whether tasks that label the same texts are encoded once and drawn together,
            with one encoder pass for all labels of a text. If not, each task is drawn on its own.
        train_only: Names of the tasks to train on and to select the checkpoint with. Default: all.
            On the command line, `--model.train_only` sets it.

    Raises:
        UserError: If the tasks or their examples cannot be used, before training starts.
    """

    draws_label_groups: ClassVar[bool] = True
    """Whether the scheme can draw tasks that label the same texts together."""

    def __init__(
        self,
        tasks: list[Task],
        backbone: str,
        root: Path | None = None,
        batch_size: Count = 32,
        eval_batch_size: Count = 64,
        max_length: Count = 128,
        max_examples: Count | dict[str, Count] | None = None,
        subset_seed: NonNegativeInt = 0,
        holdout: ShareBelowOne = 0.0,
        group_by_length: bool = True,
        seed: NonNegativeInt = 42,
        num_workers: NonNegativeInt = 0,
        cache: Path = Path(".cache/encoded"),
        encoding: Encoding | None = None,
        augment: dict[str, Augmentation] | None = None,
        label_groups: bool = True,
        train_only: str | list[str] | None = None,
    ) -> None:
        super().__init__()
        save_plain_hyperparameters(self, inspect.currentframe())
        check_bounds(type(self), self.hparams)
        self.tasks = check_tasks(tasks)
        self.root, self.cache = root and Path(root), Path(cache)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.max_length, self.max_examples, self.holdout = max_length, max_examples, holdout
        self.subset_seed = subset_seed
        self.group_by_length, self.seed, self.num_workers = group_by_length, seed, num_workers
        self.example_limits = example_limits(max_examples, self.tasks)
        self.augment = task_augmentations(augment or {}, self.tasks)
        self.encoding = encoding or Plain()
        self.tokenizer = load_tokenizer(backbone)
        check_lengths(self.encoding, self.tokenizer, self.tasks, max_length)
        positions = position_limit(load_config(backbone))
        self.opener = SplitOpener(
            self.tokenizer, self.encoding, max_length, self.cache, seed, positions
        )
        self.train_only = [train_only] if isinstance(train_only, str) else train_only
        self.groups = [[index] for index in range(len(self.tasks))]
        if label_groups and self.draws_label_groups:
            by_folder = self.root is not None
            self.groups = find_label_groups(self.tasks, self.encoding, self.augment, by_folder)
        for group in self.groups:
            members = [self.tasks[index] for index in group]
            if len(group) > 1:
                self.opener.groups |= {task.name: members for task in members}
        chosen = {index for index, task in enumerate(self.tasks) if self.is_in_training(task)}
        drawn = ([index for index in group if index in chosen] for group in self.groups)
        self.groups = [group for group in drawn if group]
        self.train_splits: dict[int, EncodedSplit] = {}
        self.eval_splits: list[EncodedSplit] = []
        self._evaluations: list[Evaluation] = []

    # Which splits.

    def is_in_training(self, task: Task) -> bool:
        """Whether a training reads examples of a task, to train on or to select the checkpoint."""
        return self.train_only is None or task.name in self.train_only

    def trains_on(self, task: Task) -> bool:
        """Whether the scheme draws training examples of a task, of those that are in training.

        Default: of every task.
        """
        return True

    def uses_holdout(self, task: Task) -> bool:
        """Whether the task's checkpoint is selected on a holdout of its training examples."""
        return self.holdout > 0 and task.splits.validation == task.splits.test

    def evaluations(self, stage: str) -> list[Evaluation]:
        """The splits that a stage evaluates, in the order of their loaders.

        Args:
            stage: `fit`, `validate`, `test` or `predict`.
        """
        holdouts = {task.name for task in self.tasks if self.uses_holdout(task)}
        evaluations = stage_evaluations(self.tasks, stage, holdouts)
        if stage != "fit":
            return evaluations
        return [each for each in evaluations if self.is_in_training(self.tasks[each.task])]

    # Opening them.

    def prepare_data(self) -> None:
        """Encodes the splits of the run, in one process per machine; the others wait."""
        assert self.trainer is not None and self.trainer.state.fn is not None
        self._open(self.trainer.state.fn.value)

    def setup(self, stage: str) -> None:
        """Opens the encoded splits; logs their sizes, and warnings about their examples."""
        self.train_splits, self.eval_splits = self._open(stage)
        self._evaluations = self.evaluations(stage)
        for index, encoded in self.train_splits.items():
            task = self.tasks[index]
            rank_zero_info(self.opener.summary(f"{task.name}, training", task, encoded))
        for evaluation, encoded in zip(self._evaluations, self.eval_splits, strict=True):
            name = f"{evaluation.name}, {evaluation.split}"
            rank_zero_info(self.opener.summary(name, self.tasks[evaluation.task], encoded))
        log_data_warnings(self, stage)

    def stream_splits(self) -> dict[int, EncodedSplit | LabelGroup]:
        """What the scheme draws from: the training examples of each label group, by its first task.

        The examples of a task that is not in a group are its split.
        """
        found: dict[int, EncodedSplit | LabelGroup] = {}
        for group in self.groups:
            splits = {i: self.train_splits[i] for i in sorted(group) if i in self.train_splits}
            if len(splits) > 1 and len({split.path for split in splits.values()}) == 1:
                found[next(iter(splits))] = LabelGroup(splits)
            else:
                found |= splits
        return dict(sorted(found.items()))

    @property
    def sizes(self) -> dict[str, int]:
        """Training examples of each task trained on; available after `setup("fit")`."""
        return {self.tasks[index].name: len(table) for index, table in self.train_splits.items()}

    @property
    def open_splits(self) -> dict[str, EncodedSplit]:
        """The open splits by `<task>, <split>`; available after `setup`."""
        named = {}
        for index, encoded in self.train_splits.items():
            named[f"{self.tasks[index].name}, {self.tasks[index].splits.train}"] = encoded
        for evaluation, encoded in zip(self._evaluations, self.eval_splits, strict=True):
            named[f"{self.tasks[evaluation.task].name}, {evaluation.split}"] = encoded
        return named

    @property
    def fingerprints(self) -> dict[str, str]:
        """A fingerprint of the file or data set of each open split, by `<task>, <split>`."""
        splits = self.open_splits.items()
        return {name: encoded.report.fingerprint[:12] for name, encoded in splits}

    def source_split(self, name: str) -> Split:
        """The examples of an open evaluation as they were before encoding.

        Args:
            name: Its name in results, such as `mnli/matched`.
        """
        names = [evaluation.name for evaluation in self._evaluations]
        return self.opener.source(self.eval_splits[names.index(name)])

    def train_split(self, task: Task) -> EncodedSplit:
        """The training examples of a task, without its holdout, at most `max_examples` of them."""
        augmentation = self.augment.get(task.name)
        encoded = self.opener.open(task, task.splits.train, self.root, augmentation=augmentation)
        count = original_count(encoded)
        start = self._holdout_size(task, count)
        if start >= count:
            raise UserError(
                f"--data.holdout {self.holdout:g}: {encoded.report.where} has {count} training "
                f"example{'s' * (count > 1)}, so none is left to train on; give a smaller share"
            )
        limit = self.example_limits.get(task.name, count)
        return random_subset(encoded, start, min(count, start + limit), self.subset_seed)

    def evaluation_split(self, evaluation: Evaluation, stage: str) -> EncodedSplit:
        """The examples of an evaluation, or the holdout that replaces them."""
        task = self.tasks[evaluation.task]
        encoded = self.opener.open(task, evaluation.split, self.root, labelled=stage != "predict")
        if self.uses_holdout(task) and stage in SELECTION_STAGES:
            size = self._holdout_size(task, len(encoded))
            return random_subset(encoded, 0, size, self.subset_seed)
        return encoded

    def _holdout_size(self, task: Task, size: int) -> int:
        return max(1, round(size * self.holdout)) if self.uses_holdout(task) else 0

    def _open_training(self) -> dict[int, EncodedSplit]:
        """The examples of each task that are trained on, by the task's index."""
        return {
            index: self.train_split(task)
            for index, task in enumerate(self.tasks)
            if self.is_in_training(task) and self.trains_on(task)
        }

    def _open(self, stage: str) -> tuple[dict[int, EncodedSplit], list[EncodedSplit]]:
        """The splits to train on (for `fit`), by the task's index, and the splits to evaluate."""
        training = self._open_training() if stage == "fit" else {}
        evaluations = self.evaluations(stage)
        return training, [self.evaluation_split(evaluation, stage) for evaluation in evaluations]
