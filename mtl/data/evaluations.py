"""Which splits a stage evaluates, and what they are called in results."""

from collections.abc import Sequence
from typing import NamedTuple

from mtl.tasks import Task

# Stages that select a checkpoint: for them a holdout of the training examples may replace the
# validation split.
SELECTION_STAGES = ("fit", "validate")


class Evaluation(NamedTuple):
    """One split to evaluate.

    Attributes:
        task: The task's index in the list of tasks.
        split: The split's name in the source.
        name: Its name in results: the task's name, with a suffix if the task has several splits
            (`mnli/matched`).
    """

    task: int
    split: str
    name: str


def splits_to_evaluate(task: Task, stage: str) -> list[str]:
    """The task's splits that a stage (`fit`, `validate`, `test` or `predict`) evaluates."""
    by_stage = {"test": task.splits.test, "predict": task.splits.predict}
    return by_stage.get(stage, task.splits.validation)


def stage_evaluations(tasks: Sequence[Task], stage: str, holdouts: set[str]) -> list[Evaluation]:
    """The evaluations of a stage, task by task.

    Args:
        tasks: All tasks.
        stage: `fit`, `validate`, `test` or `predict`.
        holdouts: Names of the tasks whose checkpoint is selected on a holdout of the training
            split.
    """
    evaluations = []
    for index, task in enumerate(tasks):
        if task.name in holdouts and stage in SELECTION_STAGES:
            evaluations.append(Evaluation(index, task.splits.train, task.name))
        else:
            splits = splits_to_evaluate(task, stage)
            evaluations += [
                Evaluation(index, split, evaluation_name(task, split, splits)) for split in splits
            ]
    return evaluations


def evaluation_name(task: Task, split: str, splits: Sequence[str]) -> str:
    """A split's name in results: `mnli/matched` for `validation_matched`, one of several."""
    if len(splits) == 1:
        return task.name
    return f"{task.name}/{split.partition('_')[2] or split}"
