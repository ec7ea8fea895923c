"""`mtl predict --input`: what a trained model says of people's own texts, row by row, in constant memory."""

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mtl.cli.lightning import report_user_errors
from mtl.cli.progress import ProgressReporter
from mtl.data.sources import Record, Unreadable
from mtl.errors import UserError, did_you_mean
from mtl.inference.texts import text_fault as fault_of
from mtl.inference.inputs import FORMATS, TEXT, Input, open_input
from mtl.inference.predictor import WINDOW, Predictor
from mtl.inference.writers import WRITERS as KINDS, open_output
from mtl.tasks import Task

# Bad rows that are shown in full; the rest are counted.
SHOWN = 20


class Question(NamedTuple):
    """A task, and the input's columns that it reads."""

    task: Task
    columns: tuple[str, ...]


def predict(words: list[str]) -> int:
    """Runs the command.

    Args:
        words: What stands after `mtl predict`.

    Returns:
        The exit status: 1 if rows were left out, else 0.

    Raises:
        UserError: If the model, the input or the output cannot be used, or a row cannot and none is to be left out.
    """
    given = _parser().parse_args(words)
    with ExitStack() as stack:
        rows = open_input(given.input, given.format, sys.stdin, stack)
        if given.output:
            _check_output(Path(given.output), Path(given.input))
        trained = Predictor(given.ckpt_path, given.device)
        source = enumerate(rows.rows)
        window = list(islice(source, given.window))
        asked = _questions(
            trained, given.task, rows, _columns_of(rows, window), _mapping(given.columns, trained)
        )
        columns = list(dict.fromkeys(column for question in asked for column in question.columns))
        places = {each.task.name: tuple(map(columns.index, each.columns)) for each in asked}
        answering = trained.engine(places, given.batch_size, given.precision == "bf16")
        output = stack.enter_context(
            open_output(given.output, [question.task for question in asked])
        )
        watch = stack.enter_context(
            ProgressReporter(rows, bar=bool(given.output) or not sys.stdout.isatty())
        )
        faults = 0
        while window:
            good: list[tuple[int, tuple[str, ...]]] = []
            for number, row in window:
                texts = _texts(row, asked, columns)
                if isinstance(texts, Unreadable):
                    message = f"{rows.where}, row {number} (counted from 0): {texts.reason}"
                    if (
                        texts.lost
                    ):  # the last row that there is, for nobody knows where the next one begins
                        message += (
                            ". Nobody knows where the next row begins, so nothing after it is read"
                        )
                    if given.on_error == "stop":
                        remedy = (
                            "mend it"
                            if texts.lost
                            else "to leave such rows out, add --on_error skip"
                        )
                        raise UserError(f"{message}; {remedy}")
                    faults += 1
                    if faults <= SHOWN or texts.lost:
                        watch.say(f"left out: {message}")
                else:
                    good.append((number, texts))
            output.write([number for number, _ in good], answering([texts for _, texts in good]))
            watch.done(len(window))
            window = list(islice(source, given.window))
    if faults:
        shown = f", of which the first {SHOWN} are shown" if faults > SHOWN else ""
        sys.stderr.write(f"{faults:,} of {watch.count:,} rows were left out{shown}\n")
    return 1 if faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "mtl predict",
        description="What a trained model says of your own texts. Nothing but the checkpoint is needed. Without --input, "
        "predictions of the tasks' own splits are written, a file for each task; options are then those of `mtl test`.",
        epilog="Rows are counted from 0, and stand in the output in the input's order. Messages go to standard error. The exit "
        "status is 0; 1 if rows were left out; 2 if the command failed.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--ckpt_path", required=True, metavar="RUN", help="a run's folder, or a checkpoint file"
    )
    parser.add_argument(
        "--input",
        required=True,
        metavar="FILE",
        help="a file, read by its ending: .csv, .tsv (no quoting), .jsonl, .txt (a text a line), each also .gz, or .parquet; "
        "or - for standard input",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="where the ending does not say it. Standard input is jsonl if its first line begins with a brace, else text: "
        "a text a line",
    )
    parser.add_argument(
        "--task",
        action="append",
        default=[],
        metavar="NAME",
        help="a task to ask, may be repeated; every task whose columns the input has, where absent",
    )
    parser.add_argument(
        "--columns",
        action="append",
        nargs="+",
        default=[],
        metavar="COLUMN=INPUT_COLUMN",
        help="the input's name of a text column where it is not the task's, such as sentence=review; the task's comes first",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="a .jsonl or .csv file, there when it is whole; JSON-lines on standard output where absent",
    )
    parser.add_argument(
        "--batch_size",
        type=_count,
        default=64,
        metavar="ROWS",
        help="rows in a pass through the encoder",
    )
    parser.add_argument(
        "--device", help="such as cpu or cuda:1; a GPU where there is one, where absent"
    )
    parser.add_argument(
        "--precision", choices=["32", "bf16"], default="32", help="of products; 32 where absent"
    )
    parser.add_argument(
        "--on_error",
        choices=["stop", "skip"],
        default="stop",
        help="what a row does that cannot be used: stop everything (the default, for whoever joins answers to rows must know "
        "that some lack), or be reported and left out, and the exit status is 1",
    )
    parser.add_argument(
        "--window",
        type=_count,
        default=WINDOW,
        metavar="ROWS",
        help=f"rows held and sorted by length at a time ({WINDOW})",
    )
    return parser


def _check_output(output: Path, given: Path) -> None:
    if output.suffix not in KINDS:
        raise UserError(
            f"--output {output}: its ending is none of {', '.join(KINDS)}, which say how answers are written"
        )
    if output.is_dir():
        raise UserError(f"--output {output}: that is a folder; give a file")
    if output.resolve() == given.resolve():
        raise UserError(f"--output {output}: that is the input; give another file")


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r}: give a number of rows, 1 or more")
    return int(word)


def _mapping(given: Sequence[Sequence[str]], trained: Predictor) -> dict[str, str]:
    known = {column for task in trained.tasks.values() for column in task.texts}
    mapping = {}
    for word in (word for words in given for word in words):
        ours, equals, theirs = word.partition("=")
        if not equals or not theirs:
            raise UserError(
                f"--columns {word}: write the task's column, =, and the input's, such as sentence=review"
            )
        if ours not in known:
            turned = (
                f" Did you mean '{theirs}={ours}'?"
                if theirs in known
                else did_you_mean(ours, known)
            )
            raise UserError(
                f"--columns {word}: no task reads a column {ours!r}; they read {sorted(known)}.{turned}"
            )
        mapping[ours] = theirs
    return mapping


def _columns_of(rows: Input, window: Sequence[tuple[int, Record | Unreadable]]) -> list[str]:
    """The columns of at least half of the first rows that can be read: they decide which tasks are asked."""
    readable = [row for _, row in window if not isinstance(row, Unreadable)]
    if readable:
        counts = Counter(name for row in readable for name in row)
        return [name for name, count in counts.items() if 2 * count >= len(readable)]
    if window and isinstance(window[0][1], Unreadable):
        raise UserError(
            f"{rows.where}: none of the first {len(window)} rows can be read; the first: {window[0][1].reason}"
        )
    raise UserError(
        f"{rows.where}: there are no rows; a file of columns begins with a line of their names"
    )


def _questions(
    trained: Predictor,
    names: Sequence[str],
    rows: Input,
    there: Sequence[str],
    mapping: Mapping[str, str],
) -> list[Question]:
    """The tasks to ask, and the columns that they read; says which are left out, and why."""
    asked: list[Question] = []
    lacking: dict[str, list[str]] = {}  # what the input lacks, and whose that is
    for task in [trained.task(name) for name in dict.fromkeys(names)] or trained.tasks.values():
        columns: tuple[str, ...] = (TEXT,)
        missing = ["second text in a line"] if task.pair else []
        if rows.format != "text":
            columns = tuple(_column(task, column, there, mapping) for column in task.texts)
            missing = [f"column {column!r}" for column in columns if column not in there]
        if missing:
            lacking.setdefault(missing[0], []).append(task.name)
        else:
            asked.append(Question(task, columns))
    reasons = [
        f"task {', '.join(whose)}: {rows.where} has no {what}" for what, whose in lacking.items()
    ]
    if reasons and (names or not asked):
        if rows.format == "text":
            raise UserError("; ".join(reasons))
        wanted = trained.task(next(iter(lacking.values()))[0]).texts[0]
        remedy = f"name those with the texts, such as --columns {shlex.quote(f'{wanted}=COLUMN')}"
        raise UserError(
            f"{'; '.join(reasons)}. Its columns are {', '.join(map(repr, there))}; {_other_kind(there) or remedy}"
        )
    for reason in reasons:
        sys.stderr.write(f"left out: {reason}\n")
    return asked


def _other_kind(there: Sequence[str]) -> str:
    """What to do where the columns' names say that the file is of another kind; empty where they do not."""
    if any("\x00" in name for name in there):
        return "this is UTF-16: save the file as UTF-8"
    for sign, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(there) == 1 and sign in there[0]:
            return f"{word} stand between them: save the file with commas" + (
                ", or say --format tsv" if sign == "\t" else ""
            )
    return ""


def _column(task: Task, column: str, there: Sequence[str], mapping: Mapping[str, str]) -> str:
    """The input's name of a task's column: as it is told, or the task's, or that of the task's own source."""
    if column in mapping:
        return mapping[column]
    of_source = task.source.columns.get(column, column)
    return of_source if column not in there and of_source in there else column


def _texts(
    row: Record | Unreadable, asked: Sequence[Question], columns: Sequence[str]
) -> tuple[str, ...] | Unreadable:
    if isinstance(row, Unreadable):
        return row
    for column in columns:
        fault = fault_of(row[column]) if column in row else "is not there"
        if fault:
            reads = ", ".join(
                question.task.name for question in asked if column in question.columns
            )
            others = " (--task asks one alone)" if len(asked) > 1 else ""
            return Unreadable(f"column {column!r} {fault}; it is read by {reads}{others}")
    return tuple(row[column] for column in columns)


def main(words: list[str]) -> None:
    """Runs the command; an error of the user's is one message."""
    with report_user_errors():
        status = predict(words)
    sys.exit(status) if status else None
