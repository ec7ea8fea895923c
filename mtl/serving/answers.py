"""Predict for the texts of requests."""

from collections.abc import Sequence
from typing import Any

from mtl.inference.engine import output_rows
from mtl.inference.predictor import Predictor
from mtl.serving.requests import ReadText


def predict_together(
    predictor: Predictor, texts: Sequence[ReadText], batch_size: int, bf16: bool = False
) -> list[dict[str, Any]]:
    """Predicts for texts; those with the same tasks and columns are predicted together.

    Args:
        predictor: The model.
        texts: The texts.
        batch_size: Number of texts in a forward pass.
        bf16: Whether to run under bfloat16 autocast.

    Returns:
        For each text the record of each task by name, as `mtl predict` writes it.
    """
    records: list[dict[str, Any]] = [{} for _ in texts]
    for positions in dict.fromkeys(text.positions for text in texts):
        indices = [index for index, text in enumerate(texts) if text.positions == positions]
        engine = predictor.engine(dict(positions), batch_size, bf16)
        outputs = engine([texts[index].texts for index in indices])
        for name, _ in positions:  # the engine's order is that of its passes
            kind = predictor.tasks[name].kind
            for index, values in zip(indices, output_rows(outputs[name]), strict=True):
                records[index][name] = kind.record(values)
    return records
