"""Shows the examples with the highest loss as a Markdown table."""

import re
from typing import Any

from mtl.data.sources import Split
from mtl.errors import UserError
from mtl.predictions import Predictions
from mtl.tasks.token_readers import joined_words

MAX_EXAMPLES, MAX_CHARACTERS = 12, 240


def worst_examples(predictions: Predictions, source: Split) -> str:
    """Makes a Markdown table of the labelled examples with the highest loss, the highest first.

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
    lines = []
    for index in worst:
        row = int(predictions.ids[index])
        label, outputs = predictions.labels[index].tolist(), predictions.outputs[index].tolist()
        cells = task.kind.comparison_cells(outputs, label)
        lines.append([str(row), *texts[row], *cells, f"{losses[index]:.3f}"])
    head = ["row", *task.text_columns, *task.kind.comparison_columns, "loss"]
    table = [head, ["---"] * len(head), *[[escaped(cell) for cell in line] for line in lines]]
    caption = (
        f"{len(worst)} of {len(predictions.ids):,} examples of {escaped(source.where)}, "
        "highest loss first"
    )
    return f"{caption}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in table)


def escaped(text: str) -> str:
    """The text on one line, shortened, with Markdown and HTML characters escaped.

    >>> escaped("a|b  <b>*c*</b>")
    'a&#124;b &#60;b&#62;&#42;c&#42;&#60;/b&#62;'
    """
    line = " ".join(text.split())
    if len(line) > MAX_CHARACTERS:
        line = f"{line[: MAX_CHARACTERS - 1].rstrip()}…"
    return re.sub(r"[&<>|\\`*_{}\[\]#~!$]", lambda match: f"&#{ord(match[0])};", line)


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
