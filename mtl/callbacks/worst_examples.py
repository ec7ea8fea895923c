"""Lists the examples with the highest loss."""

from typing import Any

from mtl.data.sources import Split
from mtl.errors import UserError
from mtl.loggers.text_table import TextTable
from mtl.predictions import Predictions
from mtl.tasks.token_readers import joined_words

MAX_EXAMPLES, MAX_CHARACTERS = 12, 240


def worst_examples(predictions: Predictions, source: Split) -> TextTable:
    """Makes a table of the labelled examples with the highest loss, the highest first.

    Rows are numbered from 0, as in prediction files.

    Args:
        predictions: The predictions for a split.
        source: The split, from which the texts are read.

    Raises:
        UserError: If the source has fewer rows than before.
    """
    task = predictions.task
    known = task.kind.is_labelled(predictions.labels)
    losses = predictions.losses.where(known, -1.0).nan_to_num(-1.0)
    order = losses.argsort(descending=True)[:MAX_EXAMPLES].tolist()
    worst = [index for index in order if losses[index] >= 0]
    texts = _texts(source, {int(predictions.ids[index]) for index in worst}, task.text_columns)
    rows = []
    for index in worst:
        row = int(predictions.ids[index])
        label, outputs = predictions.labels[index].tolist(), predictions.outputs[index].tolist()
        cells = [*texts[row], *task.kind.comparison_cells(outputs, label)]
        rows.append([str(row), *map(shortened, cells), f"{losses[index]:.3f}"])
    return TextTable(
        f"{len(worst)} of {len(predictions.ids):,} examples of {source.where}, highest loss first",
        ["row", *task.text_columns, *task.kind.comparison_columns, "loss"],
        rows,
    )


def shortened(text: str) -> str:
    """The text on one line, of `MAX_CHARACTERS` at most."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_CHARACTERS else f"{line[: MAX_CHARACTERS - 1].rstrip()}…"


def _texts(source: Split, rows: set[int], columns: list[str]) -> dict[int, list[str]]:
    """The texts of rows, by index."""
    texts: dict[int, list[str]] = {}
    records: Any = enumerate(source.records()) if rows else ()
    for row, record in records:
        if row in rows:
            values = [record[source.columns.get(column, column)] for column in columns]
            texts[row] = [str(joined_words(value)) for value in values]
        if len(texts) == len(rows):
            break
    if len(texts) < len(rows):
        raise UserError(
            f"{source.where}: has fewer rows than when the run began; restore the original data"
        )
    return texts
