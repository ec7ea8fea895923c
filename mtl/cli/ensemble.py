"""`mtl ensemble`: several runs answer together, or become one model by the mean of their weights."""

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mtl.callbacks.prediction_files import write_predictions
from mtl.callbacks.record import show_scores
from mtl.cli.lightning import report_user_errors, run
from mtl.errors import UserError
from mtl.inference.voting import average_weights as soup, combine_votes as voted
from mtl.methods.base import Predictions
from mtl.metrics import Score, mean_score, task_metrics, task_score
from mtl.tasks import Task
from mtl.training.run_folder import (
    CHECKPOINTS,
    METRICS,
    find_checkpoint,
    read_metrics,
    write_atomic,
)


class Member(NamedTuple):
    """A run of an ensemble.

    Attributes:
        folder: Its folder.
        checkpoint: Its best checkpoint.
        tasks: Its tasks by name.
        score: The suite's own score, where it has one.
        validation: What its best checkpoint scored on the validation rows (`metrics.json`).
        holdout: The share of training rows that were set aside to validate on.
    """

    folder: Path
    checkpoint: Path
    tasks: dict[str, Task]
    score: str | None
    validation: dict[str, Any]
    holdout: float


def ensemble(words: list[str]) -> None:
    """Runs the command.

    Args:
        words: What stands after `mtl ensemble`.

    Raises:
        UserError: If the runs do not belong together.
    """
    given, more = _parser().parse_known_args(words)
    out = Path(given.out)
    if (out / METRICS).exists():
        raise UserError(
            f"{out} holds a finished run; give --out another folder, or delete this one"
        )
    every = [_member(Path(folder)) for folder in given.runs]
    if given.vote == "weighted" or given.min_score > -math.inf:
        _refuse_to_choose_on_test(every)
    members = _chosen(every, given.min_score)
    if given.vote == "soup":
        _soup(members, out)
        run(
            [
                given.split,
                "--ckpt_path",
                str(out / CHECKPOINTS / "best.ckpt"),
                "--out",
                str(out),
                *more,
            ]
        )
        _record(out, given.vote, members, {})
        return
    answers = []
    for number, member in enumerate(members, start=1):
        print(f"{number} of {len(members)}: {member.folder}")
        there = out / "members" / str(number)
        # Predictions are written last, so that a part that was cut off runs again; so does one of another run.
        if (there / "of").exists() and (there / "of").read_text(encoding="utf-8") != str(
            member.folder.resolve()
        ):
            shutil.rmtree(there)
        if not (there / "predictions" / given.split).is_dir():
            write_atomic(there / "of", str(member.folder.resolve()))
            run([given.split, "--ckpt_path", str(member.folder), "--out", str(there), *more])
        answers.append(_answers(there / "predictions" / given.split, member))
    found = _together(members, answers, given.vote)
    write_predictions(out, given.split, found)
    scores = _scores(found, members[0].score) if given.split == "test" else {}
    _record(out, given.vote, members, scores)
    if scores:
        show_scores(out, f"test, {given.vote} vote of {len(members)}", scores["test"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "mtl ensemble",
        description="Several runs of the same tasks (seeds, methods, backbones) answer together. Every member is tested as "
        "`mtl test` does it, one after the other; the folder holds metrics.json and predictions as a run's does.",
        epilog="Further options are those of `mtl test`, such as --data.root DIR or --trainer.accelerator cpu. Neither members "
        "nor weights are ever chosen on test rows.",
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folders of finished runs, at least two"
    )
    parser.add_argument("--out", required=True, help="the ensemble's folder")
    parser.add_argument(
        "--vote",
        choices=["soft", "hard", "weighted", "soup"],
        default="soft",
        help="soft: mean of probabilities; hard: majority, ties to the first class; weighted: soft, each member by its "
        "validation score on the task; soup: one model with the mean of the weights. Values are averaged.",
    )
    parser.add_argument(
        "--split", choices=["test", "predict"], default="test", help="which rows are answered"
    )
    parser.add_argument(
        "--min_score",
        type=float,
        default=-math.inf,
        help="leave out runs whose validation score is less",
    )
    return parser


def _member(folder: Path) -> Member:
    metrics = read_metrics(folder)
    if "validation" not in metrics:
        raise UserError(
            f"{folder}: not the folder of a finished run: it has no metrics.json with validation scores"
        )
    checkpoint = find_checkpoint(str(folder), None, "test")
    whole = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    kept, holdout = (
        whole["hyper_parameters"],
        whole.get("datamodule_hyper_parameters", {}).get("holdout", 0.0),
    )
    tasks = {task.name: task for task in map(Task.read, kept["tasks"])}
    return Member(
        folder, checkpoint, tasks, kept.get("score"), metrics["validation"], float(holdout)
    )


def _refuse_to_choose_on_test(members: list[Member]) -> None:
    for member in members:
        same = [
            task.name
            for task in member.tasks.values()
            if set(task.splits.test) & set(task.splits.validation)
        ]
        if same and not member.holdout:
            raise UserError(
                f"{member.folder}: the validation rows of {same[0]!r} are its test rows, by which members are neither chosen nor "
                "weighed; train with --data.holdout 0.1, or vote soft or hard"
            )


def _chosen(members: list[Member], least: float) -> list[Member]:
    kept = [member for member in members if member.validation["mean"] >= least]
    for member in members:
        if member not in kept:
            print(f"left out: {member.folder} ({member.validation['mean']:.4f} on validation rows)")
    if len(kept) < 2:
        raise UserError(
            f"an ensemble needs at least two runs, and there are {len(kept)}; lower --min_score or name more"
        )
    for member in kept[1:]:
        for name in [*kept[0].tasks, *member.tasks]:
            one, other = kept[0].tasks.get(name), member.tasks.get(name)
            if (
                one is None
                or other is None
                or (one.classes, one.range) != (other.classes, other.range)
            ):
                raise UserError(
                    f"{kept[0].folder} and {member.folder} differ in task {name!r}; members answer the same questions"
                )
    return kept


def _answers(folder: Path, member: Member) -> dict[str, Predictions]:
    """A member's predictions, by split, as tensors."""
    found = {}
    for path in sorted(folder.glob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        name = path.stem if path.stem in member.tasks else "/".join(path.stem.rsplit("-", 1))
        task = member.tasks[name.partition("/")[0]]
        if task.regression:
            outputs = torch.tensor([[line["prediction"]] for line in lines])
            labels = torch.tensor([line.get("label", math.nan) for line in lines])
        else:
            outputs = torch.tensor(
                [[line["probabilities"][each] for each in task.classes] for line in lines]
            )
            labels = torch.tensor(
                [task.classes.index(line["label"]) if "label" in line else -1 for line in lines]
            )
        ids = torch.tensor([line["row"] for line in lines])
        found[name] = Predictions(task, ids, labels, outputs, torch.full((len(lines),), math.nan))
    return found


def _together(
    members: list[Member], answers: list[dict[str, Predictions]], vote: Any
) -> dict[str, Predictions]:
    found = {}
    for name, first in answers[0].items():
        rows = [answer[name] for answer in answers]
        for member, other in zip(members, rows, strict=True):
            if not (
                torch.equal(first.ids, other.ids)
                and torch.equal(first.labels.nan_to_num(-1), other.labels.nan_to_num(-1))
            ):
                raise UserError(
                    f"{members[0].folder} and {member.folder} answered other rows of {name!r}"
                )
        weights = [max(0.0, _validated(member, name)) for member in members]
        found[name] = first._replace(outputs=voted([row.outputs for row in rows], vote, weights))
    return found


def _validated(member: Member, name: str) -> float:
    """A member's validation score on a task, the mean of its splits'."""
    scores = {split: result["score"] for split, result in member.validation["tasks"].items()}
    return mean_score(
        {
            split: score
            for split, score in scores.items()
            if split.partition("/")[0] == name.partition("/")[0]
        }
    )


def _scores(found: dict[str, Predictions], score: str | None) -> dict[str, Any]:
    metrics = {
        name: task_metrics(rows.task, rows.outputs, rows.labels) for name, rows in found.items()
    }
    tasks = {
        name: {"rows": len(rows.ids), "score": task_score(metrics[name]), "metrics": metrics[name]}
        for name, rows in found.items()
    }
    mean = (
        Score(score)(metrics)
        if score
        else mean_score({name: task_score(values) for name, values in metrics.items()})
    )
    return {"test": {"mean": mean, "tasks": tasks} | ({"score": score} if score else {})}


def _soup(members: list[Member], out: Path) -> None:
    """Writes one checkpoint with the mean of the members' weights."""
    kept = [
        torch.load(member.checkpoint, map_location="cpu", weights_only=True) for member in members
    ]
    made = [checkpoint["hyper_parameters"] for checkpoint in kept]
    for name in ("_class_path", "backbone", "pooling", "placement", "losses", "heads"):
        if any(other.get(name) != made[0].get(name) for other in made):
            raise UserError(
                f"--vote soup: the runs differ in {name.removeprefix('_')}: {[other.get(name) for other in made]}"
            )
    try:
        weights = soup([checkpoint["state_dict"] for checkpoint in kept])
    except ValueError as error:
        raise UserError(f"--vote soup: the runs are not of one architecture: {error}") from error
    path = out / CHECKPOINTS / "best.ckpt"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    torch.save(kept[0] | {"state_dict": weights}, part)
    part.replace(path)


def _record(out: Path, vote: str, members: list[Member], scores: dict[str, Any]) -> None:
    made = [
        {
            "run": str(member.folder),
            "checkpoint": str(member.checkpoint),
            "validation": member.validation["mean"],
        }
        for member in members
    ]
    whole = read_metrics(out) | {"ensemble": {"vote": vote, "members": made}} | scores
    write_atomic(out / METRICS, json.dumps(whole, indent=2) + "\n")


def main(words: list[str]) -> None:
    """Runs the command; an error of the user's is one message."""
    with report_user_errors():
        ensemble(words)
