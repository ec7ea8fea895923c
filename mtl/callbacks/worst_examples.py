"""The rows that a model gets most wrong, as a table that a person reads."""

import re
from typing import Any

from mtl.data.sources import Split
from mtl.errors import UserError
from mtl.methods.base import Predictions

# Rows shown, and characters of a text shown: a screen's worth.
SHOWN, LONGEST = 12, 240


def worst_examples(rows: Predictions, source: Split) -> str:
    """A Markdown table of the labelled rows of highest loss, the highest first, with their texts.

    Rows are numbered as in the files of predictions, from 0.

    Args:
        rows: The rows of a split, and the model's answers.
        source: Where their texts are.

    Raises:
        UserError: If the source cannot be read any more.
    """
    task = rows.task
    losses = rows.losses.nan_to_num(-1.0)  # of a row without a label there is none
    places = [
        place for place in losses.argsort(descending=True)[:SHOWN].tolist() if losses[place] >= 0
    ]
    texts = _texts(source, {int(rows.ids[place]) for place in places}, task.texts)
    if task.regression:
        head = ["row", *task.texts, "target", "prediction", "off by", "loss"]
    else:
        head = ["row", *task.texts, "label", "prediction", "its probability", "the label's", "loss"]
    lines = []
    for place in places:
        number, label, output = (
            int(rows.ids[place]),
            rows.labels[place].item(),
            rows.outputs[place].tolist(),
        )
        if task.regression:
            answer = [f"{label:g}", f"{output[0]:.2f}", f"{output[0] - label:+.2f}"]
        else:
            chosen = output.index(max(output))
            answer = [
                task.classes[int(label)],
                task.classes[chosen],
                f"{output[chosen]:.3f}",
                f"{output[int(label)]:.3f}",
            ]
        lines.append([str(number), *texts[number], *answer, f"{losses[place]:.3f}"])
    table = [head, ["---"] * len(head), *[[escaped(cell) for cell in line] for line in lines]]
    rows_of = (
        f"{len(places)} of {len(rows.ids):,} rows of {escaped(source.where)}, highest loss first"
    )
    return f"{rows_of}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in table)


def escaped(text: str) -> str:
    """A text on one line, cut where it is long, in which Markdown and HTML find nothing.

    >>> escaped("a|b  <b>*c*</b>")
    'a&#124;b &#60;b&#62;&#42;c&#42;&#60;/b&#62;'
    """
    line = " ".join(text.split())
    line = line if len(line) <= LONGEST else f"{line[: LONGEST - 1].rstrip()}…"
    return re.sub(r"[&<>|\\`*_{}\[\]#~!$]", lambda found: f"&#{ord(found[0])};", line)


def _texts(source: Split, wanted: set[int], columns: list[str]) -> dict[int, list[str]]:
    """Of rows by number their texts."""
    found: dict[int, list[str]] = {}
    records: Any = enumerate(source.records()) if wanted else ()
    for number, record in records:
        if number in wanted:
            found[number] = [str(record[source.columns.get(column, column)]) for column in columns]
        if len(found) == len(wanted):
            break
    if len(found) < len(wanted):
        raise UserError(f"{source.where}: rows that were there when the run began are gone")
    return found
