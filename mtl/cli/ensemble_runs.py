"""What `mtl ensemble` does: combine predictions of runs, or average their weights."""

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch

from mtl.callbacks.group_accuracy import group_accuracies
from mtl.callbacks.prediction_files import write_prediction_files
from mtl.callbacks.score_table import show_scores
from mtl.cli import lightning
from mtl.cli.command import import_model_classes
from mtl.cli.ensemble_members import (
    Member,
    check_same_examples,
    choose_members,
    read_member,
    refuse_selection_on_test,
)
from mtl.errors import UserError
from mtl.inference.voting import combine_votes
from mtl.merging.weights import average_weights
from mtl.metrics import mean_score, task_metrics, task_score
from mtl.predictions import Predictions
from mtl.tasks import MultiLabel
from mtl.tasks.score import Score
from mtl.training.checkpoints import read_checkpoint
from mtl.training.run_folder import (
    CHECKPOINTS,
    METRICS,
    atomic_output,
    check_fresh_folder,
    read_metrics,
    write_atomic,
)

# The file in a member's folder that names its run.
MEMBER_RUN = "run.txt"
# Hyper-parameters that must be equal in all runs whose weights are averaged.
ARCHITECTURE = ("_class_path", "backbone", "pooling", "placement", "losses", "head", "pair_head")


def combine_runs(args: argparse.Namespace) -> None:
    """Combines the runs.

    Raises:
        UserError: If the runs do not fit together, or the folder is in use.
    """
    out = Path(args.out)
    check_fresh_folder(out)
    import_model_classes(args.model)
    members = [read_member(Path(folder)) for folder in args.runs]
    if args.vote == "weighted" or args.min_score > -math.inf:
        refuse_selection_on_test(members)
    members = choose_members(members, args.min_score)
    if args.vote == "soup":
        checkpoint = out / CHECKPOINTS / "best.ckpt"
        _average_weights(members, checkpoint)
        options = ["--ckpt_path", str(checkpoint), "--out", str(out)]
        lightning.run([args.split, *options, *args.unknown])
        _record(out, args.vote, members, {})
        return
    predictions = []
    for number, member in enumerate(members, start=1):
        print(f"{number} of {len(members)}: {member.folder}")
        folder = _predict(member, out / "members" / str(number), args.split, args.unknown)
        predictions.append(member.read_predictions(folder))
    combined = _combine(members, predictions, args.vote)
    write_prediction_files(out, args.split, combined)
    scores = _scores(combined, members[0]) if args.split == "test" else {}
    _record(out, args.vote, members, scores)
    if scores:
        show_scores(out, f"test, {args.vote} vote of {len(members)}", scores["test"])


def _predict(member: Member, out: Path, split: str, options: list[str]) -> Path:
    """Predicts with a member, unless that has been done; returns the folder of its predictions."""
    folder, name, run = out / "predictions" / split, out / MEMBER_RUN, str(member.folder.resolve())
    if name.exists() and name.read_text(encoding="utf-8") != run:
        shutil.rmtree(out)  # predictions of another run
    if not folder.is_dir():  # predictions are written last: an interrupted member is repeated
        write_atomic(name, run)
        checkpoint = ["--ckpt_path", str(member.folder)]
        lightning.run([split, *checkpoint, "--out", str(out), *options])
    return folder


def _combine(
    members: list[Member], predictions: list[dict[str, Predictions]], vote: Any
) -> dict[str, Predictions]:
    """Combines the members' predictions of each split."""
    combined = {}
    for split, first in predictions[0].items():
        same_split = [prediction[split] for prediction in predictions]
        check_same_examples(members, split, same_split)
        weights = [max(0.0, member.validation_score(split)) for member in members]
        several = isinstance(first.task.kind, MultiLabel)
        members_outputs = [prediction.outputs for prediction in same_split]
        outputs = combine_votes(members_outputs, vote, weights, several)
        combined[split] = first._replace(outputs=outputs)
    return combined


def _scores(predictions: dict[str, Predictions], member: Member) -> dict[str, Any]:
    """The test scores as they are written to `metrics.json`."""
    metrics = {
        split: task_metrics(each.task, each.outputs, each.labels)
        for split, each in predictions.items()
    }
    scores = {split: task_score(values) for split, values in metrics.items()}
    results = {
        split: {"examples": len(each.ids), "score": scores[split], "metrics": metrics[split]}
        for split, each in predictions.items()
    }
    mean = Score(member.score)(metrics) if member.score else mean_score(scores)
    test: dict[str, Any] = {"mean": mean, "tasks": results}
    groups = group_accuracies(predictions, list(member.tasks.values()), member.label_groups)
    test |= {"all_correct": groups} if groups else {}
    return {"test": test | ({"score": member.score} if member.score else {})}


def _average_weights(members: list[Member], path: Path) -> None:
    """Writes a checkpoint with the mean of the members' weights."""
    checkpoints = [read_checkpoint(member.checkpoint, mmap=False) for member in members]
    for name in ARCHITECTURE:
        values = [checkpoint["hyper_parameters"].get(name) for checkpoint in checkpoints]
        if any(value != values[0] for value in values):
            raise UserError(
                f"--vote soup: the runs differ in {name.removeprefix('_')}: {values}; name runs of "
                "one architecture, or vote soft"
            )
    try:
        weights = average_weights([checkpoint["state_dict"] for checkpoint in checkpoints])
    except ValueError as error:
        raise UserError(
            f"--vote soup: the runs differ in their architecture: {error}; vote soft instead"
        ) from error
    with atomic_output(path) as temporary:
        torch.save(checkpoints[0] | {"state_dict": weights}, temporary)


def _record(out: Path, vote: str, members: list[Member], scores: dict[str, Any]) -> None:
    """Adds the members and the scores to `metrics.json`."""
    runs = [
        {
            "run": str(member.folder),
            "checkpoint": str(member.checkpoint),
            "validation": member.validation["mean"],
        }
        for member in members
    ]
    metrics = read_metrics(out) | {"ensemble": {"vote": vote, "members": runs}} | scores
    write_atomic(out / METRICS, json.dumps(metrics, indent=2) + "\n")
