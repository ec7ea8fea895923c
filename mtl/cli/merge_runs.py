"""What `mtl merge` does: merge encoders, evaluate each coefficient, write the best as a run."""

import argparse
import csv
import io
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_info

from mtl.callbacks.record import without_nan
from mtl.callbacks.run_description import parameter_counts
from mtl.callbacks.score_table import show_scores
from mtl.cli.command import import_model_classes
from mtl.cli.lightning import command_line
from mtl.cli.merge_evaluation import Evaluation, without_messages
from mtl.cli.merge_members import Expert, merged_configuration, read_experts
from mtl.errors import UserError
from mtl.merging.encoders import merged_encoders
from mtl.merging.figure import coefficients_figure
from mtl.merging.grid import Candidate, Coefficients, pareto_optimal
from mtl.merging.weights import Weights, check_same_shapes
from mtl.methods.evaluation import scores_by_task
from mtl.modules.encoder import Encoder
from mtl.training.run_folder import (
    BEST,
    CHECKPOINTS,
    METRICS,
    atomic_output,
    check_fresh_folder,
    write_atomic,
)

COEFFICIENTS = "coefficients"  # .csv and .png


class Evaluated(NamedTuple):
    """A merged encoder and its validation scores.

    Attributes:
        candidate: Its coefficients and scores.
        encoder: Its weights.
        scores: Its scores, as in `metrics.json`.
    """

    candidate: Candidate
    encoder: Weights
    scores: dict[str, Any]


def merge_runs(args: argparse.Namespace, coefficients: Sequence[Coefficients]) -> None:
    """Merges the runs.

    Args:
        args: The options of the command.
        coefficients: The coefficients to try.

    Raises:
        UserError: If the runs do not fit together, or the folder is in use.
    """
    start, out = time.perf_counter(), Path(args.out)
    check_fresh_folder(out)
    import_model_classes(args.model)
    experts = read_experts(args.runs)
    config = merged_configuration(experts)
    pretrained = _pretrained_encoder(experts, config)
    options = ["--config", json.dumps(config), "--out", str(out), *args.unknown]
    evaluation = command_line(Evaluation, ["validate", *options])
    weights = {f"encoder.{name}": value for name, value in pretrained.items()}
    for expert in experts:
        weights |= expert.rest
    evaluation.model.load_state_dict(weights)
    encoders = [expert.encoder for expert in experts]
    merged = merged_encoders(args.method, pretrained, encoders, coefficients, args.seed or 0)
    with evaluation.writing():
        candidates, best = [], None
        for each in _evaluated(evaluation, merged):
            candidates.append(each.candidate)
            if best is None or _order(each) > _order(best):
                best = each
        assert best is not None
        evaluation.model.get_submodule("encoder").load_state_dict(best.encoder)
        evaluation.trainer.save_checkpoint(out / CHECKPOINTS / BEST, weights_only=True)
        if evaluation.trainer.is_global_zero:
            evaluation.write_config()
            _write_candidates(out, experts, candidates, best.candidate)
            seconds = time.perf_counter() - start
            _record(evaluation, args, experts, candidates, best, seconds)


def _pretrained_encoder(experts: Sequence[Expert], config: dict[str, Any]) -> Weights:
    """The weights of the backbone, which all runs started from.

    Raises:
        UserError: If the runs did not start from them, or have other parameters.
    """
    backbone, pooling = config["backbone"], config["model"]["init_args"]["pooling"]
    encoder = Encoder(backbone, pooling)
    if encoder.new_parameters:
        raise UserError(
            f"--backbone {backbone}: its checkpoint has no pooling layer, so each run started from "
            "its own; merge runs with --model.pooling cls or mean"
        )
    pretrained = encoder.state_dict()
    for expert in experts:
        try:
            check_same_shapes(pretrained, expert.encoder)
        except ValueError as error:
            raise UserError(
                f"{expert.run}: its encoder is not that of --backbone {backbone}: {error}; merge "
                "runs that were fine-tuned from it"
            ) from error
    return pretrained


def _evaluated(
    evaluation: Evaluation, merged: Iterator[tuple[Coefficients, Weights]]
) -> Iterator[Evaluated]:
    """Evaluates merged encoders, and prints the score of each."""
    for number, (coefficients, encoder) in enumerate(merged):
        evaluation.model.get_submodule("encoder").load_state_dict(encoder)
        with without_messages() if number else nullcontext():
            scores = evaluation.scores()
        tasks = scores_by_task(scores["tasks"])
        candidate = Candidate(coefficients, scores["mean"], tasks)
        listed = ", ".join(f"{task} {score:.4f}" for task, score in tasks.items())
        rank_zero_info(f"{str(coefficients) or 'mean'}: {candidate.score:.4f} ({listed})")
        yield Evaluated(candidate, encoder, scores)


def _order(evaluated: Evaluated) -> float:
    """The score; one that is not defined is the lowest."""
    score = evaluated.candidate.score
    return -math.inf if math.isnan(score) else score


def _write_candidates(
    out: Path, experts: Sequence[Expert], candidates: Sequence[Candidate], best: Candidate
) -> None:
    """Writes the scores of all coefficients as a table and as a picture."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    tasks = [expert.task for expert in experts]
    writer.writerow(["density", "scale", "score", *tasks, "pareto", "used"])
    optimal = pareto_optimal([list(each.tasks.values()) for each in candidates])
    for each, pareto in zip(candidates, optimal, strict=True):
        scores = [each.score, *(each.tasks[task] for task in tasks)]
        used = each is best
        writer.writerow([*each.coefficients, *scores, int(pareto), int(used)])
    write_atomic(out / f"{COEFFICIENTS}.csv", text.getvalue())
    singles = {expert.task: expert.score for expert in experts}
    with atomic_output(out / f"{COEFFICIENTS}.png") as temporary:
        coefficients_figure(candidates, best, singles).savefig(temporary, format="png", dpi=150)


def _record(
    evaluation: Evaluation,
    args: argparse.Namespace,
    experts: Sequence[Expert],
    candidates: Sequence[Candidate],
    best: Evaluated,
    seconds: float,
) -> None:
    """Writes `metrics.json`, the last file of a run, and prints the scores."""
    runs = [
        {"run": str(expert.run), "task": expert.task, "validation": expert.score}
        for expert in experts
    ]
    coefficients = best.candidate.coefficients
    merging = {
        "method": args.method,
        **coefficients._asdict(),
        "seed": args.seed or 0,
        "runs": runs,
        "candidates": [
            {**each.coefficients._asdict(), "score": each.score, "tasks": each.tasks}
            for each in candidates
        ],
    }
    metrics = evaluation.description() | {
        "validation": best.scores,
        "seconds": seconds,
        "steps": 0,
        "examples_drawn": {expert.task: 0 for expert in experts},
        "parameters": parameter_counts(evaluation.model) | {"trained": 0},
        "merge": merging,
    }
    text = json.dumps(without_nan(metrics), indent=2, allow_nan=False)
    write_atomic(evaluation.out / METRICS, text + "\n")
    title = ", ".join(filter(None, ["validation", args.method, str(coefficients)]))
    show_scores(evaluation.out, title, best.scores)
    singles = ", ".join(f"{expert.task} {expert.score:.4f}" for expert in experts)
    rank_zero_info(f"validation scores of the runs: {singles}")
