"""Refuses bad rows before training, in one message that names the file, the row, the value and the remedy."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from mtl.data.sources import Record, Split
from mtl.errors import UserError, did_you_mean, shorten
from mtl.tasks import Task

# Faults shown in full; the rest are counted.
SHOWN = 5


class Example(NamedTuple):
    """A row that can be used.

    Attributes:
        number: The row's place in its split, counted from 0.
        texts: One text, or the two of a pair.
        label: Class number or target; None where the row has none.
    """

    number: int
    texts: tuple[str, ...]
    label: int | float | None


class _Fault(ValueError):
    """What is wrong with one row; `label` is one that is none of the classes."""

    def __init__(self, kind: str, message: str, label: str = "") -> None:
        super().__init__(message)
        self.kind, self.label = kind, label


def checked_examples(
    task: Task, split: Split, dropped: Counter[str], labelled: bool = True
) -> Iterator[Example]:
    """The rows of a split that can be used.

    Args:
        task: The task, whose `drop` lists the faults that are left out instead of refused.
        split: The rows.
        dropped: Takes the number of rows left out, by fault.
        labelled: Whether a row needs a label; where not, its label may be missing.

    Raises:
        UserError: After the last row, if any was at fault: the first few faults in full and the number of the others;
            or if no row is left.
    """
    faults: list[str] = []
    unknown = Counter[str]()
    count, used = 0, 0
    for number, record in enumerate(split.records()):
        try:
            if not _selected(task, record, split):
                continue
            count += 1
            row = Example(
                number, _texts(task, record, split), _label(task, record, split, labelled)
            )
        except _Fault as fault:
            if fault.kind in task.drop:
                dropped[fault.kind] += 1
            elif fault.kind == "column":  # every row would repeat it
                raise UserError(
                    f"task {task.name!r}: {split.where}, row {number + 1}: {fault}"
                ) from None
            else:
                faults.append(f"{split.where}, row {number + 1}: {fault}")
                unknown.update([fault.label] if fault.label else [])
            continue
        used += 1
        if not faults:
            yield row
    if faults:
        more = f"\n  ... and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        if more and unknown:
            counts = ", ".join(f"{label} ({times:,})" for label, times in unknown.most_common(20))
            more += f"\n  labels that are no class: {counts}"
        raise UserError(
            f"task {task.name!r}: {len(faults)} of {count} rows cannot be used:\n  "
            + "\n  ".join(faults[:SHOWN])
            + more
        )
    if not used:
        chosen = f" with {task.source.where}" if task.source.where else ""
        raise UserError(f"task {task.name!r}: {split.where}: the split has no rows{chosen}")


def _selected(task: Task, record: Record, split: Split) -> bool:
    return all(
        str(_value(record, split, column)) == wanted for column, wanted in task.source.where.items()
    )


def _value(record: Record, split: Split, column: str) -> Any:
    name = split.columns.get(column, column)
    if name not in record:
        have = ", ".join(map(repr, record)) or "none"
        hint = (
            did_you_mean(name, record)
            or " A column of another name is named in the task's source.columns."
        )
        raise _Fault("column", f"there is no column {name!r}; the columns are {have}.{hint}")
    return record[name]


def _texts(task: Task, record: Record, split: Split) -> tuple[str, ...]:
    texts = tuple(_value(record, split, column) for column in task.texts)
    for column, text in zip(task.texts, texts, strict=True):
        if text is None or (isinstance(text, str) and not text.strip()):
            raise _Fault(
                "incomplete",
                f"column {column!r} is empty ({text!r}); write the text, or add `drop: [incomplete]` to the task",
            )
        if not isinstance(text, str):
            raise _Fault(
                "text",
                f"column {column!r} holds {shorten(text)}, which is not text; put it in quotes",
            )
    return texts


def _label(task: Task, record: Record, split: Split, needed: bool) -> int | float | None:
    value = (
        _value(record, split, task.label)
        if needed
        else record.get(split.columns.get(task.label, task.label))
    )
    low = task.range[0] if task.range else 0
    hidden = str(value).strip() in ("", "-", "None") or (
        low > -1 and str(value).strip() in ("-1", "-1.0")
    )
    if not hidden:
        return _target(task, value) if task.regression else _class(task, value)
    if needed:
        raise _Fault(
            "unlabelled",
            f"no label ({value!r}); write one, or add `drop: [unlabelled]` to the task",
        )
    return None


def _target(task: Task, value: Any) -> float:
    assert task.range is not None  # what makes it a regression
    low, high = task.range
    try:
        target = float(value)
    except (TypeError, ValueError):
        raise _Fault("label", f"target {shorten(value)} is not a number") from None
    if not (math.isfinite(target) and low <= target <= high):
        raise _Fault("label", f"target {value!r} is outside the task's range [{low:g}, {high:g}]")
    return target


def _class(task: Task, value: Any) -> int:
    """The number of a class given by name, by number (`1`, `"1"`, `"1.0"`) or by the source's own word for it."""
    name = task.source.labels.get(str(value), str(value).strip())
    if name in task.classes:
        return task.classes.index(name)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if number.is_integer() and 0 <= number < len(task.classes):
        return int(number)
    hint = (
        did_you_mean(name, task.classes)
        or " Add it to the task's classes, or say in source.labels which of them it is."
    )
    raise _Fault(
        "label",
        f"label {shorten(value)} is none of the task's classes {task.classes}.{hint}",
        shorten(value),
    )
