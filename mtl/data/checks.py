"""Checks the examples of a split before training and reports all faults in one message."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mtl.data.formats import Record
from mtl.data.sources import Split
from mtl.data.text_faults import delimiter_hint, is_blank, unusable_characters
from mtl.errors import UserError, did_you_mean, list_words, shorten
from mtl.tasks import Label, LabelError, Task
from mtl.tasks.token_readers import joined_words, word_fault

# Faults shown in full; the others are counted.
SHOWN = 5
# Unknown labels listed with their counts.
UNKNOWN_SHOWN = 20


class Example(NamedTuple):
    """A usable example.

    Attributes:
        number: The example's row in its split, counted from 0.
        texts: One text, or the two of a pair.
        label: Class index, target, or a list of them; None if the example has no label.
    """

    number: int
    texts: tuple[str, ...]
    label: Label | None


class _Fault(ValueError):
    """What is wrong with one row.

    Attributes:
        kind: The fault's name in `Task.drop` if it can be dropped.
        unknown_label: The label, if it is not one of the classes.
        column: Whether every other row would have the same fault.
    """

    def __init__(
        self, kind: str, message: str, unknown_label: str = "", column: bool = False
    ) -> None:
        super().__init__(message)
        self.kind, self.unknown_label, self.column = kind, unknown_label, column


def checked_examples(
    task: Task | Sequence[Task], split: Split, dropped: Counter[str], labelled: bool = True
) -> Iterator[Example]:
    """The usable examples of a split.

    Args:
        task: The task; its `drop` lists the faults whose examples are dropped instead of refused.
            Or the tasks of a label group: the label of an example is then a list with one label
            for each, None for those that may lack one (`drop: [unlabelled]`).
        split: The split.
        dropped: Receives the number of dropped examples by fault.
        labelled: Whether every example needs a label.

    Raises:
        UserError: After the last row, if any row is faulty: the first few faults in full and the
            number of the others; or if there is no usable example.
    """
    tasks = [task] if isinstance(task, Task) else list(task)
    task = tasks[0]
    reader = _ExampleReader(task, split, labelled)
    others = [_ExampleReader(other, split, labelled) for other in tasks[1:]]
    faults = _FaultReport(tasks, split)
    selected = usable = 0
    for number, record in enumerate(split.records()):
        try:
            if not reader.is_selected(record):
                continue
            selected += 1
            example = reader.read(number, record, others)
        except _Fault as fault:
            if fault.kind in task.drop:
                dropped[fault.kind] += 1
            else:
                faults.add(number, fault)
            continue
        usable += 1
        if not faults.messages:
            yield example
    if faults.messages:
        raise faults.error(selected)
    if not usable:
        condition = f" with {task.source.where}" if task.source.where else ""
        rows = "usable rows" if selected else "rows"
        counts = ", ".join(f"{count:,} {fault} dropped" for fault, count in dropped.items())
        raise UserError(
            f"task {task.name!r}: {split.where}: the split has no {rows}{condition}"
            f"{f' ({counts})' if counts else ''}"
        )


class _FaultReport:
    """Collects the faults of a split's rows."""

    def __init__(self, tasks: Sequence[Task], split: Split) -> None:
        names = list_words([repr(task.name) for task in tasks])
        self.tasks, self.split = f"task{'s' * (len(tasks) > 1)} {names}", split
        self.messages: list[str] = []
        self.unknown_labels = Counter[str]()

    def add(self, number: int, fault: _Fault) -> None:
        """Adds the fault of one row; raises it at once if all other rows would repeat it."""
        message = f"{self.split.where}, row {number + 1}: {fault}"
        if fault.column:
            raise UserError(f"{self.tasks}: {message}")
        self.messages.append(message)
        self.unknown_labels.update([fault.unknown_label] if fault.unknown_label else [])

    def error(self, rows: int) -> UserError:
        """The error that lists the faults.

        Args:
            rows: Number of rows read.
        """
        count = len(self.messages)
        lines = [f"{self.tasks}: {count} of {rows} rows cannot be used:"]
        lines += self.messages[:SHOWN]
        if count > SHOWN:
            lines.append(f"... and {count - SHOWN} more")
            if self.unknown_labels:
                common = self.unknown_labels.most_common(UNKNOWN_SHOWN)
                counts = ", ".join(f"{label} ({times:,})" for label, times in common)
                lines.append(f"labels that are not among the classes: {counts}")
        return UserError("\n  ".join(lines))


class _ExampleReader:
    """Makes examples of the records of one split."""

    def __init__(self, task: Task, split: Split, labelled: bool) -> None:
        self.task, self.columns, self.labelled = task, split.columns, labelled
        self._records, self._columns_found = split.records, dict[str, bool]()
        self._read_label = task.kind.label_reader(task.source.labels)

    def is_selected(self, record: Record) -> bool:
        """Whether a record has the values that `source.where` requires."""
        where = self.task.source.where
        return all(str(self._value(record, column)) == value for column, value in where.items())

    def read(self, number: int, record: Record, others: "Sequence[_ExampleReader]" = ()) -> Example:
        """The example in a record, with the labels of the other readers.

        Raises:
            _Fault: If it cannot be used.
        """
        texts = self._texts(record)
        if not others:
            return Example(number, texts, self._label(record))
        labels = [reader._label_in_group(record) for reader in (self, *others)]
        if self.labelled and all(label is None for label in labels):
            raise _Fault("unlabelled", "no label of any task")
        return Example(number, texts, labels)

    def _value(self, record: Record, column: str) -> Any:
        name = self.columns.get(column, column)
        if name not in record and self._is_column(name):
            return None
        if name not in record:
            columns = ", ".join(map(repr, record)) or "none"
            hint = (
                delimiter_hint(list(record))
                or did_you_mean(name, record)
                or " If the column has another name, give it in the task's source.columns; a file "
                "without a line of names needs one."
            )
            message = f"there is no column {name!r}; the columns are {columns}.{hint}"
            raise _Fault("column", message, column=True)
        return record[name]

    def _is_column(self, name: str) -> bool:
        """Whether any row of the split has a column: rows of JSON lines may leave some out."""
        if name not in self._columns_found:
            self._columns_found[name] = any(name in record for record in self._records())
        return self._columns_found[name]

    def _texts(self, record: Record) -> tuple[str, ...]:
        columns = self.task.text_columns
        texts = tuple(self._text(record, column) for column in columns)
        for column, text in zip(columns, texts, strict=True):
            if is_blank(text):
                raise _Fault(
                    "incomplete",
                    f"column {column!r} is empty ({text!r}); write the text, or add "
                    "`drop: [incomplete]` to the task",
                )
            if not isinstance(text, str):
                remedy = (
                    "write one text"
                    if isinstance(text, list | dict | bytes)
                    else "put it in quotes"
                )
                raise _Fault(
                    "text", f"column {column!r} holds {shorten(text)}, which is not text; {remedy}"
                )
            if fault := unusable_characters(text):
                raise _Fault("text", f"column {column!r} {fault}; correct the text")
        return texts

    def _text(self, record: Record, column: str) -> Any:
        """A text; a list of words is joined by spaces."""
        value = self._value(record, column)
        if column in self.task.source.marks and isinstance(value, str):
            return self._marked(record, column, value)
        if fault := word_fault(value):
            raise _Fault("text", f"column {column!r}: {fault}")
        return joined_words(value)

    def _marked(self, record: Record, column: str, text: str) -> str:
        """The text, with asterisks around the part that `source.marks` names."""
        names = self.task.source.marks[column]
        ends = [self._value(record, name) for name in names]
        try:
            start, end = map(int, ends)
        except (TypeError, ValueError):
            start = end = -1
        if not 0 <= start < end <= len(text):
            raise _Fault(
                "text",
                f"columns {names[0]!r} and {names[1]!r} hold {shorten(ends)}, which is no part of "
                f"column {column!r} ({len(text)} characters); correct them",
            )
        return f"{text[:start]}*{text[start:end]}*{text[end:]}"

    def _label_in_group(self, record: Record) -> Label | None:
        """The label; the message of a fault names the task and its column."""
        try:
            return self._label(record, "unlabelled" in self.task.drop)
        except _Fault as fault:
            column = f", column {', '.join(map(repr, self.task.label_columns))}"
            where = f"task {self.task.name!r}{'' if fault.kind == 'column' else column}"
            raise _Fault(
                fault.kind, f"{where}: {fault}", fault.unknown_label, fault.column
            ) from None

    def _label(self, record: Record, optional: bool = False) -> Label | None:
        values = tuple(
            self._value(record, column)
            if self.labelled
            else record.get(self.columns.get(column, column))
            for column in self.task.label_columns
        )
        value = values[0] if len(values) == 1 else values
        try:
            label = self._read_label(value)
        except LabelError as error:
            raise _Fault("label", str(error), error.unknown, error.column) from None
        if label is None and self.labelled and not optional:
            raise _Fault(
                "unlabelled",
                f"no label ({value!r}); write one, or add `drop: [unlabelled]` to the task",
            )
        return label
