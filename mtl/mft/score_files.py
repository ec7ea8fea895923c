"""Files of prototypical scores: a JSON line for each training example, and a manifest.

The manifest (`scores.json`) records the backbone, the data and the settings that the scores were
computed with.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mtl.errors import UserError
from mtl.tasks import Task
from mtl.training.checkpoints import tensors_digest
from mtl.training.run_folder import atomic_output, file_digest, write_atomic

SCORES = "scores.jsonl"
MANIFEST = "scores.json"
RESCORE = "compute the scores again: mtl score-prototypes"


class TaskScores(NamedTuple):
    """Scores of the training examples of a task.

    Attributes:
        ids: Indices of the examples in the split, counted from 0, ascending, shape (examples,).
        classes: Class indices, shape (examples,).
        tokens: Lengths in tokens, shape (examples,).
        scores: Scores, shape (examples,).
    """

    ids: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]


def write_scores(
    folder: Path, scores: Mapping[str, TaskScores], tasks: Iterable[Task], manifest: dict[str, Any]
) -> None:
    """Writes the scores, and after them the manifest, without which they are not read.

    Args:
        folder: The folder.
        scores: Scores by task.
        tasks: The tasks.
        manifest: What was scored, and how.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    classes = {task.name: task.classes for task in tasks}
    with (
        atomic_output(folder / SCORES) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        for name, task_scores in scores.items():
            for index, label, tokens, score in zip(
                *(column.tolist() for column in task_scores), strict=True
            ):
                line = {
                    "domain": name,
                    "row": index,
                    "class": classes[name][label],
                    "tokens": tokens,
                    "score": score,
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    digest = file_digest(folder / SCORES)
    write_atomic(folder / MANIFEST, json.dumps(manifest | {"sha256": digest}, indent=2) + "\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads the manifest of a folder of scores.

    Raises:
        UserError: If there is none, or the scores were changed after it was written.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(
            f"--model.scores {folder}: there is no {path}; `mtl score-prototypes --out {folder}` "
            "writes it when it finishes"
        )
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if not (folder / SCORES).is_file() or file_digest(folder / SCORES) != manifest["sha256"]:
        raise UserError(
            f"--model.scores {folder}: {SCORES} is missing or was changed after {MANIFEST} was "
            f"written; {RESCORE}"
        )
    return manifest


def read_scores(folder: Path, tasks: Iterable[Task]) -> dict[str, TaskScores]:
    """Reads the scores of the given tasks.

    Raises:
        UserError: If a line names a class that its task does not have.
    """
    labels = {task.name: {name: index for index, name in enumerate(task.classes)} for task in tasks}
    lines: dict[str, list[tuple[int, int, int, float]]] = {name: [] for name in labels}
    with (folder / SCORES).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            record = json.loads(line)
            task, label = record["domain"], record["class"]
            if task not in labels:
                continue
            if label not in labels[task]:
                raise UserError(
                    f"{folder / SCORES}, row {number}: {label!r} is not one of the classes "
                    f"{list(labels[task])} of task {task!r}; {RESCORE}"
                )
            lines[task].append(
                (record["row"], labels[task][label], record["tokens"], record["score"])
            )
    return {name: _columns(task_lines) for name, task_lines in lines.items() if task_lines}


def _columns(lines: list[tuple[int, int, int, float]]) -> TaskScores:
    ids, classes, tokens, scores = zip(*lines, strict=True)
    return TaskScores(
        np.asarray(ids, np.int64),
        np.asarray(classes, np.int64),
        np.asarray(tokens, np.int64),
        np.asarray(scores),
    )


def scores_of_examples(
    folder: Path,
    task: str,
    task_scores: TaskScores,
    ids: npt.NDArray[np.int64],
    classes: npt.NDArray[np.int64],
) -> Tensor:
    """Looks up the scores of a task's training examples.

    Args:
        folder: The folder of the scores, for messages.
        task: Name of the task.
        task_scores: The scores of the task.
        ids: Indices of the examples in the split; -1 - i for an augmented copy of example i.
        classes: Class indices of the examples.

    Returns:
        Scores, float64, shape (examples,).

    Raises:
        UserError: If the examples are not those that were scored, or one had another class.
    """
    originals = np.where(ids < 0, -1 - ids, ids)
    trained_on = set(originals.tolist())
    if differing := len(trained_on ^ set(task_scores.ids.tolist())):
        raise UserError(
            f"--model.scores {folder}: of task {task!r} {len(task_scores.ids):,} examples were "
            f"scored, but this run trains on {len(trained_on):,}, and {differing:,} are only in "
            f"one of the two; {RESCORE} with the --data options of this run"
        )
    positions = np.searchsorted(task_scores.ids, originals)
    if (changed := task_scores.classes[positions] != classes).any():
        raise UserError(
            f"--model.scores {folder}: row {originals[changed][0] + 1} of task {task!r} had "
            f"another class when it was scored; {RESCORE}"
        )
    return torch.from_numpy(task_scores.scores[positions])


def check_manifest(
    folder: Path, manifest: dict[str, Any], fingerprints: Mapping[str, str], max_length: int
) -> None:
    """Checks that scores were computed for the same tasks, data and length as those of a run.

    Args:
        folder: The folder of the scores.
        manifest: Its manifest.
        fingerprints: For each training task the fingerprint of its data.
        max_length: Maximum length of an example in tokens.

    Raises:
        UserError: With the difference.
    """
    if set(manifest["tasks"]) != set(fingerprints):
        raise UserError(
            f"--model.scores {folder}: scores are for the domains {', '.join(manifest['tasks'])}, "
            f"but this run trains on {', '.join(fingerprints)}; {RESCORE}"
        )
    for name, fingerprint in fingerprints.items():
        if manifest["tasks"][name]["fingerprint"] != fingerprint:
            raise UserError(
                f"--model.scores {folder}: task {name!r} was scored with other data "
                f"({manifest['tasks'][name]['where']} at that time); {RESCORE}"
            )
    if manifest["max_length"] != max_length:
        raise UserError(
            f"--model.scores {folder}: scores were computed with --data.max_length "
            f"{manifest['max_length']}, but this run uses {max_length}; {RESCORE}"
        )


def weights_digest(backbone: nn.Module) -> str:
    """A digest of the weights of a backbone. Its optional pooling layer is not included."""
    weights = sorted(backbone.named_parameters())
    return tensors_digest(
        (name, value) for name, value in weights if not name.startswith("pooler.")
    )
