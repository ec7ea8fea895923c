"""Measures what int8 weights cost: the run's validation scores with and without them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtl.cli.checkpoints import load_weights
from mtl.cli.early import check_early
from mtl.cli.lightning import command_line
from mtl.cli.merge_evaluation import Evaluation, without_messages
from mtl.errors import UserError
from mtl.export.int8 import quantize
from mtl.inference.graph import GRAPHS, Int8Scores, use_graph, write_int8_scores


class Reference(NamedTuple):
    """A run that is evaluated on its validation data.

    Attributes:
        evaluation: The evaluation, with the run's weights.
        fp32: Metrics of these weights by task (or by `task/split`) and name.
    """

    evaluation: Evaluation
    fp32: dict[str, dict[str, float]]


def validation_scores(run: str, arguments: Sequence[str], options: Sequence[str]) -> Reference:
    """Evaluates a run on its validation data.

    Args:
        run: The run's folder, or a checkpoint.
        arguments: Options of `mtl validate`, such as those that say where the data are.
        options: Further options that may have been meant.

    Raises:
        UserError: If its validation data are not available.
    """
    words = ["--ckpt_path", run, "--trainer.accelerator", "cpu", *arguments]
    check_early("validate", words, options)
    try:
        evaluation: Evaluation = command_line(Evaluation, ["validate", *words], "validate")
        load_weights(evaluation.model, str(evaluation.config["validate"].ckpt_path))
        return Reference(evaluation, _metrics(evaluation.scores()))
    except UserError as error:
        raise UserError(
            f"--int8 measures the scores on the run's validation data: {error}"
        ) from error


def write_int8(export: Path, reference: Reference) -> list[str]:
    """Writes `onnx/model_int8.onnx` and its scores next to the run's.

    Args:
        export: The folder of the export, with its graph in fp32.
        reference: The run that is exported.

    Returns:
        Notes for the model card.
    """
    quantize(export)
    use_graph(reference.evaluation.model, export / GRAPHS["int8"])
    with without_messages():
        int8 = _metrics(reference.evaluation.scores())
    scores = Int8Scores("validation", reference.fp32, int8)
    write_int8_scores(export, scores)
    sizes = [_megabytes(export / GRAPHS[name]) for name in ("int8", "onnx")]
    return [
        f"`{GRAPHS['int8']}` has 8-bit weights ({sizes[0]:,.0f} MB instead of {sizes[1]:,.0f}). "
        f"Its scores on the validation data: {'; '.join(scores.lines())}."
    ]


def _megabytes(graph: Path) -> float:
    """Size of a graph, with its file of weights if it has one."""
    return sum(file.stat().st_size for file in graph.parent.glob(f"{graph.name}*")) / 1e6


def _metrics(scores: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {split: result["metrics"] for split, result in scores["tasks"].items()}
