"""Warnings about the data of a run: which splits are checked, and when warnings are logged."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch.utilities import rank_zero_only

from mtl.data.evaluations import SELECTION_STAGES, Evaluation
from mtl.data.split_examples import UnencodedSplit
from mtl.data.split_warnings import FEW_EXAMPLES, NamedSplit, split_warnings
from mtl.data.unencoded import Memory, UnencodedOpener
from mtl.errors import UserError
from mtl.tasks import Task

if TYPE_CHECKING:
    from mtl.data.task_data import TaskDataModule

# Set while the runs of a comparison train: the comparison has printed the warnings.
SILENT = "MTL_NO_DATA_WARNINGS"

# A warning reports truncated training examples from this share on.
TRUNCATED_SHARE = 0.1

_log = logging.getLogger("lightning.pytorch.mtl")


@contextmanager
def without_data_warnings() -> Iterator[None]:
    """Context manager: no warnings about data in this process and those that it starts."""
    before = os.environ.get(SILENT)
    os.environ[SILENT] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SILENT]
        else:
            os.environ[SILENT] = before


@rank_zero_only
def log_data_warnings(data: "TaskDataModule", stage: str) -> None:
    """Logs the warnings about the splits of a stage, in one process of a run.

    Args:
        data: The data, after `setup(stage)`.
        stage: `fit` or `test`.
    """
    if SILENT in os.environ or stage not in ("fit", "test"):
        return
    unencoded = without_encoding(data)
    for index, task in enumerate(data.tasks):
        for warning in task_data_warnings(data, unencoded, index, stage, opened=True):
            _log.warning("Warning: task %r, %s", task.name, warning)


def without_encoding(data: "TaskDataModule", memory: Memory | None = None) -> "TaskDataModule":
    """A copy of the data that opens splits without encoding them.

    Args:
        data: The data.
        memory: Splits that were read already.
    """
    unencoded: Any = copy(data)
    unencoded.opener = UnencodedOpener(data.opener, memory)
    return cast("TaskDataModule", unencoded)


def task_data_warnings(
    data: "TaskDataModule",
    unencoded: "TaskDataModule",
    index: int,
    stage: str = "fit",
    *,
    opened: bool = False,
    few: int = FEW_EXAMPLES,
) -> Iterator[str]:
    """Warnings about the examples of a task that are trained on, selected with and tested.

    Args:
        data: The data.
        unencoded: The copy that `without_encoding` makes.
        index: The task's index.
        stage: `fit`, or `test`.
        opened: Whether `setup(stage)` has opened the stage's splits; otherwise they are read.
        few: Classes with fewer training examples are reported.
    """
    task = data.tasks[index]
    if stage == "fit" and not data.is_in_training(task):
        return
    if stage == "fit" and data.holdout and not data.uses_holdout(task):
        yield (
            f"--data.holdout {data.holdout:g}: nothing is held out, because the task selects its "
            f"checkpoint on {' and '.join(task.splits.validation)}, which it does not test"
        )
    training = _training_split(data, unencoded, index, opened)
    evaluated = list(_evaluated_splits(data, unencoded, index, stage, opened))
    yield from split_warnings(task, training, evaluated, few)
    if training and stage == "fit":
        yield from _truncation_warnings(data, task, training)


def _truncation_warnings(data: "TaskDataModule", task: Task, training: NamedSplit) -> Iterator[str]:
    """Many truncated training examples; of examples that are not encoded, a sample is."""
    encoding, examples = data.opener.encoding, training.examples
    if isinstance(examples, UnencodedSplit):
        count, about = len(examples.sample), "about "
        _, truncated = encoding(data.tokenizer, task, examples.sample, data.max_length)
    else:
        count, truncated, about = examples.report.rows, examples.report.truncated, ""
    count *= max(1, len(task.choices))  # each choice is a sequence
    if not truncated or truncated < TRUNCATED_SHARE * count:
        return
    length, positions = encoding.length_limit(task, data.max_length), data.opener.positions
    more = (
        "this is all that the backbone reads; `truncation: head_tail` in the task file keeps both "
        "ends"
        if positions is not None and length >= positions
        else "more tokens take more time" + (f"; the backbone reads {positions}" * bool(positions))
    )
    yield (
        f"{training.title}: {about}{truncated / count:.0%} of the examples are truncated to "
        f"{length} tokens ({encoding.length_option(task)}); {more}"
    )


def _training_split(
    data: "TaskDataModule", unencoded: "TaskDataModule", index: int, opened: bool
) -> NamedSplit | None:
    """The examples of a task that are trained on; None if there are none, or cannot be read."""
    task = data.tasks[index]
    if not data.trains_on(task):
        return None
    if opened and index in data.train_splits:
        return NamedSplit(task.splits.train, data.train_splits[index])
    try:
        return NamedSplit(task.splits.train, unencoded.train_split(task))
    except UserError:  # a test does not need the training examples
        return None


def _evaluated_splits(
    data: "TaskDataModule", unencoded: "TaskDataModule", index: int, stage: str, opened: bool
) -> Iterator[NamedSplit]:
    """The splits of a task that a stage evaluates; for training also those of a test."""
    seen = set()
    for other in ("fit", "test") if stage == "fit" else ("test",):
        for number, evaluation in enumerate(data.evaluations(other)):
            name = _split_name(data, evaluation, other)
            if evaluation.task != index or name in seen:
                continue
            seen.add(name)
            if opened and other == stage:
                yield NamedSplit(name, data.eval_splits[number])
                continue
            try:
                yield NamedSplit(name, unencoded.evaluation_split(evaluation, other))
            except UserError:  # training does not need the test examples
                continue


def _split_name(data: "TaskDataModule", evaluation: Evaluation, stage: str) -> str:
    held_out = stage in SELECTION_STAGES and data.uses_holdout(data.tasks[evaluation.task])
    return f"holdout of {evaluation.split}" if held_out else evaluation.split
