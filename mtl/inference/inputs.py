"""Rows of people's own files, or of standard input: read as they come, the unreadable ones among them."""

import codecs
import gzip
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

from mtl.data.sources import Record, Unreadable, json_lines, lines_of, parquet, separated, tabbed
from mtl.errors import UserError

FORMATS = ("jsonl", "csv", "tsv", "parquet", "text")
ENDINGS = {".txt": "text"} | {f".{name}": name for name in FORMATS if name != "text"}
# The column of lines of plain text.
TEXT = "text"


class Input(NamedTuple):
    """Rows, opened.

    Attributes:
        where: The file, as messages name it.
        format: How it is laid out, one of `FORMATS`.
        rows: Its rows in their order; those that cannot be read in their places.
        total: Bytes of the file, or rows of Parquet; None where nobody knows.
        done: How much of that has been read.
    """

    where: str
    format: str
    rows: Iterator[Record | Unreadable]
    total: int | None
    done: Callable[[], int]


def open_input(given: str, format: str | None, stdin: TextIO | None, stack: ExitStack) -> Input:
    """Opens a file, or standard input.

    Args:
        given: The file, each kind but Parquet also with .gz; or `-`.
        format: Its format. Where absent a file's ending says it; standard input is `jsonl` if its first line that is not empty
            begins with a brace, else `text`.
        stdin: Standard input; None where it is closed.
        stack: Closes the file.

    Raises:
        UserError: If there is no such file, or its format is not known.
    """
    if given == "-":
        if stdin is None:
            raise UserError("--input -: standard input is closed; give a file")
        return _standard_input(format, stdin.buffer)
    path = Path(given)
    if path.is_dir():
        raise UserError(f"--input {given}: that is a folder; give a file")
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    kind = format or ENDINGS.get(ending)
    if kind is None:
        raise UserError(
            f"--input {given}: the ending {ending!r} is not known; say what it is, --format {' or '.join(FORMATS)}"
        )
    if not path.is_file():
        raise UserError(f"--input {given}: there is no such file")
    if kind == "parquet":
        return _parquet(path)
    raw = stack.enter_context(path.open("rb"))
    file: Iterable[bytes] = (
        stack.enter_context(gzip.GzipFile(fileobj=raw)) if path.suffix.lower() == ".gz" else raw
    )
    return Input(given, kind, _rows(kind, file, given), path.stat().st_size, raw.tell)


def _standard_input(format: str | None, stdin: BinaryIO) -> Input:
    if format == "parquet":
        raise UserError("--input -: Parquet is not read from standard input; give the file")
    first = [stdin.readline()]
    while first[-1] and not first[-1].strip():
        first.append(stdin.readline())
    kind = format or (
        "jsonl" if first[-1].removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{") else "text"
    )
    lines = chain((line for line in first if line), stdin)
    return Input("standard input", kind, _rows(kind, lines, "standard input"), None, lambda: 0)


def _rows(kind: str, file: Iterable[bytes], where: str) -> Iterator[Record | Unreadable]:
    # A line that is not UTF-8 loses itself alone: what is no character is kept as such, and refused where it is a text.
    lines = lines_of(file, where, errors="surrogateescape")
    if kind == "text":
        return ({TEXT: line.rstrip("\r\n")} for line in lines)
    return {"jsonl": json_lines, "csv": separated, "tsv": tabbed}[kind](lines)


def _parquet(path: Path) -> Input:
    import pyarrow.parquet

    try:
        total = int(pyarrow.parquet.read_metadata(path).num_rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not Parquet, or damaged: {error}") from error
    count = 0

    def counted() -> Iterator[Record | Unreadable]:
        nonlocal count
        for record in parquet(path):
            count += 1
            yield record

    return Input(str(path), "parquet", counted(), total, lambda: count)
