"""Predictions for the user's own texts, window by window, in constant memory."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice

from mtl.cli.predict_columns import RowReader, column_mapping, columns_of, tasks_to_predict
from mtl.cli.predict_keep import kept_columns
from mtl.cli.progress import ProgressReporter
from mtl.data.formats import Record, Unreadable
from mtl.errors import UserError
from mtl.inference.inputs import open_input
from mtl.inference.layout import Layout
from mtl.inference.options import WINDOW
from mtl.inference.predictor import Predictor
from mtl.inference.writers import open_output

# Number of unusable rows that are reported one by one; the others are only counted.
REPORTED = 20

Window = list[tuple[int, Record | Unreadable]]


class SkippedRows:
    """Counts the rows that cannot be used, and reports the first ones.

    Args:
        where: The input, as messages name it.
        skip: Whether such rows are skipped; otherwise the first one is an error.
        report: Prints a message.
    """

    def __init__(self, where: str, skip: bool, report: Callable[[str], None]) -> None:
        self.where, self.skip, self.report, self.count = where, skip, report, 0

    def add(self, number: int, row: Unreadable) -> None:
        """Adds a row.

        Args:
            number: Its number, counted from 0.
            row: Why it cannot be used.

        Raises:
            UserError: If rows are not to be skipped.
        """
        message = f"{self.where}, row {number} (counted from 0): {row.reason}"
        if row.lost:
            message += ". The start of the next row cannot be determined, so reading stops here"
        if not self.skip:
            remedy = "fix it" if row.lost else "to skip such rows, add --on_error skip"
            raise UserError(f"{message}; {remedy}")
        self.count += 1
        if self.count <= REPORTED or row.lost:
            self.report(f"skipped: {message}")

    def summary(self, total: int) -> str:
        """A line for the end of the command."""
        shown = f", of which the first {REPORTED} are shown" if self.count > REPORTED else ""
        return f"{self.count:,} of {total:,} rows were skipped{shown}"


def predict_texts(args: argparse.Namespace) -> int:
    """Predicts the texts of the input.

    Args:
        args: The options of `mtl predict`.

    Returns:
        The exit status: 1 if rows were skipped, else 0.

    Raises:
        UserError: If the model, the input or the output cannot be used, or a row cannot be used and
            `--on_error skip` is not given.
    """
    with ExitStack() as stack:
        source = open_input(args.input, args.format, sys.stdin, stack)
        predictor = Predictor(args.ckpt_path, args.device)
        windows = _windows(enumerate(source.rows), args.window or WINDOW)
        first = next(windows, [])
        mapping = column_mapping(args.columns or [], predictor)
        columns = columns_of(source, first)
        tasks = tasks_to_predict(predictor, args.task or [], source, columns, mapping)
        reader = RowReader(tasks)
        engine = predictor.engine(
            reader.positions(), args.batch_size or 64, args.precision == "bf16"
        )
        predicted = [each.task for each in tasks]
        kept = kept_columns(args.keep or [], columns, predicted)
        layout = Layout(predicted, kept, args.threshold or 0.0)
        output = stack.enter_context(open_output(args.output, layout))
        bar = bool(args.output) or not sys.stdout.isatty()
        progress = stack.enter_context(ProgressReporter(source, bar))
        skipped = SkippedRows(source.where, args.on_error == "skip", progress.print)
        window = first
        while window:
            numbers, rows, texts = _usable(window, reader, skipped)
            chosen = [{name: row[name] for name in kept if name in row} for row in rows]
            output.write(numbers, chosen, engine(texts))
            progress.advance(len(window))
            window = next(windows, [])
    if skipped.count:
        sys.stderr.write(f"{skipped.summary(progress.count)}\n")
    return int(skipped.count > 0)


def _windows(rows: Iterator[tuple[int, Record | Unreadable]], size: int) -> Iterator[Window]:
    while window := list(islice(rows, size)):
        yield window


def _usable(
    window: Window, reader: RowReader, skipped: SkippedRows
) -> tuple[list[int], list[Record], list[tuple[str, ...]]]:
    """The rows of a window that can be used: their numbers, the rows, and their texts."""
    numbers: list[int] = []
    rows: list[Record] = []
    usable: list[tuple[str, ...]] = []
    for number, row in window:
        if isinstance(row, Unreadable):
            skipped.add(number, row)
            continue
        texts = reader(row)
        if isinstance(texts, Unreadable):
            skipped.add(number, texts)
            continue
        numbers.append(number)
        rows.append(row)
        usable.append(texts)
    return numbers, rows, usable
