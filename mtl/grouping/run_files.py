"""What a run stores for the grouping of its tasks, in a folder of its own."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mtl.errors import UserError
from mtl.grouping.gains import Gains, gains_of_affinity, mean_gains
from mtl.grouping.linearized import estimated_gains, read_snapshot

FOLDER, AFFINITY = "grouping", "affinity.json"
# The callbacks of a joint run that measure what is read here.
CALLBACKS = ("GradientSnapshots", "TaskAffinity")

Affinity = dict[tuple[str, str], float]


def affinity_text(affinity: Mapping[tuple[str, str], float], steps: int) -> str:
    """The contents of the file with the affinity of each pair of tasks."""
    pairs = [
        {"step of": one, "loss of": other, "affinity": value}
        for (one, other), value in affinity.items()
    ]
    return json.dumps({"steps": steps, "pairs": pairs}, indent=2) + "\n"


def read_affinity(run: Path) -> Affinity | None:
    """The affinities of a run's tasks; None if it measured none."""
    path = run / FOLDER / AFFINITY
    if not path.is_file():
        return None
    pairs = json.loads(path.read_text(encoding="utf-8"))["pairs"]
    return {(each["step of"], each["loss of"]): float(each["affinity"]) for each in pairs}


def estimates(runs: Sequence[Path], groups: Iterable[frozenset[str]]) -> dict[str, Gains]:
    """The estimated gains of groups of tasks, the mean over joint runs with different seeds.

    Args:
        runs: Folders of runs of all tasks.
        groups: The groups.

    Returns:
        The estimates by the word for the estimator: `gradients`, `affinity`.

    Raises:
        UserError: If a run has measured nothing, or something else than the others.
    """
    groups, found = list(groups), dict[str, list[Gains]]()
    for run in runs:
        snapshots = sorted((run / FOLDER).glob("gradients-*.npz"))
        affinity = read_affinity(run)
        if not snapshots and affinity is None:
            raise UserError(
                f"{run}: no gradients were stored; train all tasks in one run with "
                + " ".join(f"--trainer.callbacks+={name}" for name in CALLBACKS)
            )
        if snapshots:
            parts = [estimated_gains(read_snapshot(path), groups) for path in snapshots]
            found.setdefault("gradients", []).append(mean_gains(parts))
        if affinity is not None:
            found.setdefault("affinity", []).append(gains_of_affinity(affinity, iter(groups)))
    if any(len(each) < len(runs) for each in found.values()):
        raise UserError(
            f"{', '.join(map(str, runs))}: some of these runs lack what others have measured; "
            "train all with the same callbacks"
        )
    return {name: mean_gains(each) for name, each in found.items()}
