"""The runs of an ensemble: reading them, choosing them, and checking that they fit together."""

from pathlib import Path
from typing import Any, NamedTuple

from mtl.errors import UserError
from mtl.metrics import mean_score
from mtl.predictions import Predictions, read_predictions
from mtl.tasks import Task
from mtl.training.checkpoints import read_checkpoint
from mtl.training.run_folder import find_checkpoint, read_metrics


class Member(NamedTuple):
    """A run of an ensemble.

    Attributes:
        folder: Its folder.
        checkpoint: Its best checkpoint.
        tasks: Its tasks by name.
        score: The expression of its score; None if that is the mean over tasks.
        validation: Scores of the best checkpoint on the validation splits, from `metrics.json`.
        holdout: Share of the training examples that was set aside for validation.
    """

    folder: Path
    checkpoint: Path
    tasks: dict[str, Task]
    score: str | None
    validation: dict[str, Any]
    holdout: float

    def validation_score(self, split: str) -> float:
        """The validation score of a split's task: the mean over the task's validation splits."""
        task = task_of(split)
        results = self.validation["tasks"].items()
        return mean_score(
            {name: result["score"] for name, result in results if task_of(name) == task}
        )

    @property
    def label_groups(self) -> list[list[int]]:
        """The tasks of each label group that the run scored as a whole, by their index."""
        names = list(self.tasks)
        return [
            [names.index(task_of(split)) for split in group.split(" + ")]
            for group in self.validation.get("all_correct", {})
        ]

    def read_predictions(self, folder: Path) -> dict[str, Predictions]:
        """Reads the member's predictions.

        Args:
            folder: The folder with one file for each split.

        Returns:
            The predictions by split.
        """
        predictions = {}
        for path in sorted(folder.glob("*.jsonl")):
            # mnli-matched.jsonl holds the split mnli/matched.
            split = path.stem if path.stem in self.tasks else "/".join(path.stem.rsplit("-", 1))
            predictions[split] = read_predictions(path, self.tasks[task_of(split)])
        return predictions


def task_of(split: str) -> str:
    """The task's name in the name of a split, such as `mnli/matched`."""
    return split.partition("/")[0]


def read_member(folder: Path) -> Member:
    """Reads what an ensemble needs to know of a run.

    Args:
        folder: The run's folder.

    Raises:
        UserError: If the run is not finished, or its checkpoint cannot be read.
    """
    validation: Any = read_metrics(folder).get("validation")
    if not isinstance(validation, dict) or not isinstance(validation.get("mean"), float):
        raise UserError(
            f"{folder}: not the folder of a finished run: it has no metrics.json with validation "
            "scores; give folders that `mtl fit` has completed"
        )
    checkpoint = find_checkpoint(str(folder), None, "test")
    content = read_checkpoint(checkpoint)
    method = content["hyper_parameters"]
    holdout = content.get("datamodule_hyper_parameters", {}).get("holdout", 0.0)
    tasks = {task.name: task for task in map(Task.read, method["tasks"])}
    return Member(folder, checkpoint, tasks, method.get("score"), validation, float(holdout))


def choose_members(members: list[Member], min_score: float) -> list[Member]:
    """Returns the members with a sufficient validation score; prints which ones are dropped.

    Args:
        members: The members.
        min_score: The lowest validation score of a member.

    Raises:
        UserError: If fewer than two members remain, or they have different tasks.
    """
    chosen = [member for member in members if member.validation["mean"] >= min_score]
    for member in members:
        if member not in chosen:
            print(f"dropped: {member.folder} (validation score {member.validation['mean']:.4f})")
    if len(chosen) < 2:
        raise UserError(
            f"an ensemble needs at least two runs, but has {len(chosen)}; lower --min_score or "
            "name more runs"
        )
    for member in chosen[1:]:
        _check_same_tasks(chosen[0], member)
    return chosen


def _check_same_tasks(first: Member, second: Member) -> None:
    for name in [*first.tasks, *second.tasks]:
        one, other = first.tasks.get(name), second.tasks.get(name)
        if one is None or other is None or not one.kind.same_outputs(other.kind):
            raise UserError(
                f"{first.folder} and {second.folder} differ in task {name!r}; name runs of the "
                "same tasks"
            )


def refuse_selection_on_test(members: list[Member]) -> None:
    """Checks that validation scores, which select or weight members, are not scores on test data.

    Raises:
        UserError: If a member was validated on its test examples.
    """
    for member in members:
        shared = [
            task.name
            for task in member.tasks.values()
            if set(task.splits.test) & set(task.splits.validation)
        ]
        if shared and not member.holdout:
            raise UserError(
                f"{member.folder}: task {shared[0]!r} has the same examples for validation and "
                "test, so its validation score must not select or weight members; train with "
                "--data.holdout 0.1, or use --vote soft or hard"
            )


def check_same_examples(members: list[Member], split: str, predictions: list[Predictions]) -> None:
    """Checks that all members predicted the same examples with the same labels.

    Args:
        members: The members.
        split: The split, for messages.
        predictions: The predictions of each member.

    Raises:
        UserError: If two members predicted different examples.
    """
    first = predictions[0]
    for member, other in zip(members, predictions, strict=True):
        labels = [(each.labelled().ids, each.labelled().labels) for each in (first, other)]
        pairs = [(first.ids, other.ids), *zip(*labels, strict=True)]
        if not all(one.equal(two) for one, two in pairs):
            raise UserError(
                f"{members[0].folder} and {member.folder} predicted different examples of "
                f"{split!r}; give all runs the same data"
            )
