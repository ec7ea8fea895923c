"""Files of prototypical scores: a line for each row, and a manifest that says of what backbone and of what rows."""

import hashlib
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
from mtl.training.run_folder import write_atomic

SCORES = "scores.jsonl"
MANIFEST = "scores.json"
AGAIN = "score the rows anew: mtl score-prototypes"


class Scored(NamedTuple):
    """Scores of a task's training rows.

    Attributes:
        rows: Row numbers in the split, counted from 0, ascending, (rows,).
        classes: The rows' classes, (rows,).
        tokens: Their lengths in tokens, (rows,).
        scores: Their scores, (rows,).
    """

    rows: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]


def write_scores(
    folder: Path, scored: Mapping[str, Scored], tasks: Iterable[Task], manifest: dict[str, Any]
) -> None:
    """Writes the scores, and last the manifest, without which they count for nothing.

    Args:
        folder: The folder.
        scored: Scores by task.
        tasks: The tasks.
        manifest: What was scored, how and with what.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    names = {task.name: task.classes for task in tasks}
    part = folder / f"{SCORES}.part"
    with part.open("w", encoding="utf-8") as file:
        for name, found in scored.items():
            for row, kind, tokens, score in zip(
                *(column.tolist() for column in found), strict=True
            ):
                line = {
                    "domain": name,
                    "row": row,
                    "class": names[name][kind],
                    "tokens": tokens,
                    "score": score,
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    digest = _digest(part)
    part.replace(folder / SCORES)
    write_atomic(folder / MANIFEST, json.dumps(manifest | {"sha256": digest}, indent=2) + "\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """What is said of the scores in a folder.

    Raises:
        UserError: If there are none, or they are not those that the manifest is of.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(
            f"--model.scores {folder}: there is no {path}, which `mtl score-prototypes --out {folder}` writes last"
        )
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if not (folder / SCORES).is_file() or _digest(folder / SCORES) != manifest["sha256"]:
        raise UserError(
            f"--model.scores {folder}: {SCORES} is missing or was changed since {MANIFEST} was written; {AGAIN}"
        )
    return manifest


def read_scores(folder: Path, tasks: Iterable[Task]) -> dict[str, Scored]:
    """The scores of each task in a folder that has its manifest.

    Raises:
        UserError: If a line names a class that its task does not have.
    """
    found: dict[str, list[tuple[int, int, int, float]]] = {task.name: [] for task in tasks}
    places = {task.name: {name: place for place, name in enumerate(task.classes)} for task in tasks}
    with (folder / SCORES).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            record = json.loads(line)
            task = record["domain"]
            if task not in found:
                continue
            if record["class"] not in places[task]:
                raise UserError(
                    f"{folder / SCORES}, row {number}: {record['class']!r} is none of the classes "
                    f"{list(places[task])} of {task!r}; {AGAIN}"
                )
            found[task].append(
                (record["row"], places[task][record["class"]], record["tokens"], record["score"])
            )
    return {name: _columns(lines) for name, lines in found.items() if lines}


def _columns(lines: list[tuple[int, int, int, float]]) -> Scored:
    rows, classes, tokens, scores = zip(*lines, strict=True)
    return Scored(
        np.asarray(rows, np.int64),
        np.asarray(classes, np.int64),
        np.asarray(tokens, np.int64),
        np.asarray(scores),
    )


def of_rows(
    where: Path,
    task: str,
    scored: Scored,
    rows: npt.NDArray[np.int64],
    classes: npt.NDArray[np.int64],
) -> Tensor:
    """The scores of a task's training rows, float64, (rows,).

    Args:
        where: The scores' folder, for errors.
        task: The task's name.
        scored: Its scores.
        rows: Row numbers in the split; -1 - r for what augmentation made of row r.
        classes: Their classes.

    Raises:
        UserError: If other rows were scored than are trained on, or a row had another class then.
    """
    numbers = np.where(rows < 0, -1 - rows, rows)
    if other := len(set(numbers.tolist()) ^ set(scored.rows.tolist())):
        raise UserError(
            f"--model.scores {where}: {len(scored.rows):,} rows of {task!r} were scored and {len(set(numbers.tolist())):,} are "
            f"trained on; {other:,} of them are not the same; {AGAIN} with the --data options of this run"
        )
    places = np.searchsorted(scored.rows, numbers)
    if (changed := scored.classes[places] != classes).any():
        raise UserError(
            f"--model.scores {where}: row {numbers[changed][0] + 1} of {task!r} had another class then; {AGAIN}"
        )
    return torch.from_numpy(scored.scores[places])


def check_rows(
    where: Path, manifest: dict[str, Any], fingerprints: Mapping[str, str], max_length: int
) -> None:
    """Refuses scores of other domains, other files or another length than a run's.

    Args:
        where: The scores' folder.
        manifest: What is said of them.
        fingerprints: Of each task trained on, that of its rows' file.
        max_length: The run's longest row in tokens.

    Raises:
        UserError: With what is different.
    """
    if set(manifest["tasks"]) != set(fingerprints):
        raise UserError(
            f"--model.scores {where}: of the domains {list(manifest['tasks'])}, not {list(fingerprints)}; {AGAIN}"
        )
    for name, fingerprint in fingerprints.items():
        if manifest["tasks"][name]["fingerprint"] != fingerprint:
            raise UserError(
                f"--model.scores {where}: {name!r} was scored from other rows ({manifest['tasks'][name]['where']}, as it was "
                f"then); {AGAIN}"
            )
    if manifest["max_length"] != max_length:
        raise UserError(
            f"--model.scores {where}: scored with --data.max_length {manifest['max_length']}, not {max_length}; {AGAIN}"
        )


def weights_digest(backbone: nn.Module) -> str:
    """A fingerprint of a backbone's weights, but for the layer that pools, which may be left out."""
    digest = hashlib.sha256()
    for name, value in sorted(backbone.named_parameters()):
        if name.startswith("pooler."):
            continue
        digest.update(name.encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().data)
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
