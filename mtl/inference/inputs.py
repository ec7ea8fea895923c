"""Read rows of text from a file or from standard input, one at a time."""

import codecs
import gzip
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

from mtl.data.formats import Record, Unreadable, json_lines, parquet, separated, tabbed
from mtl.data.text_lines import lines_of
from mtl.errors import UserError
from mtl.inference.options import FORMATS

FORMAT_OF_EXTENSION = {".txt": "text"} | {f".{name}": name for name in FORMATS if name != "text"}
# Name of the only column of plain text.
TEXT = "text"


class Input(NamedTuple):
    """An opened file or standard input.

    Attributes:
        where: The file, as messages name it.
        format: Its format, one of `FORMATS`.
        rows: Its rows in order; a row that cannot be read is an `Unreadable`.
        total: Size of the file in bytes, or number of rows in a Parquet file; None if it is
            unknown.
        done: Returns how much of `total` has been read.
    """

    where: str
    format: str
    rows: Iterator[Record | Unreadable]
    total: int | None
    done: Callable[[], int]


def open_input(name: str, format: str | None, stdin: TextIO | None, stack: ExitStack) -> Input:
    """Opens a file or standard input.

    Args:
        name: The file (all formats except Parquet may be compressed, `.gz`), or `-` for standard
            input.
        format: Its format. Default: given by the file name extension. Standard input is `jsonl` if
            its first line that is not empty begins with a brace, else `text`.
        stdin: Standard input; None if it is closed.
        stack: Closes the file.

    Raises:
        UserError: If there is no such file, or its format is unknown.
    """
    if name == "-":
        if stdin is None:
            raise UserError("--input -: standard input is closed; give a file")
        return _standard_input(format, stdin.buffer)
    path = Path(name)
    if path.is_dir():
        raise UserError(f"--input {name}: is a folder; give a file")
    extension = Path(path.name.lower().removesuffix(".gz")).suffix
    file_format = format or FORMAT_OF_EXTENSION.get(extension)
    if file_format is None:
        raise UserError(
            f"--input {name}: unknown extension {extension!r}; give the format with --format "
            f"{' or '.join(FORMATS)}"
        )
    if not path.is_file():
        raise UserError(f"--input {name}: there is no such file")
    if file_format == "parquet":
        return _parquet(path)
    raw = stack.enter_context(path.open("rb"))
    file: Iterable[bytes] = (
        stack.enter_context(gzip.GzipFile(fileobj=raw)) if path.suffix.lower() == ".gz" else raw
    )
    return Input(name, file_format, _rows(file_format, file, name), path.stat().st_size, raw.tell)


def _standard_input(format: str | None, stdin: BinaryIO) -> Input:
    if format == "parquet":
        raise UserError("--input -: Parquet cannot be read from standard input; give a file")
    first_lines = [stdin.readline()]
    while first_lines[-1] and not first_lines[-1].strip():
        first_lines.append(stdin.readline())
    start = first_lines[-1].removeprefix(codecs.BOM_UTF8).lstrip()
    input_format = format or ("jsonl" if start.startswith(b"{") else "text")
    lines = chain((line for line in first_lines if line), stdin)
    where = "standard input"
    return Input(where, input_format, _rows(input_format, lines, where), None, lambda: 0)


def _rows(format: str, file: Iterable[bytes], where: str) -> Iterator[Record | Unreadable]:
    # Invalid UTF-8 is kept as surrogate escapes, so that only the row that holds it is rejected,
    # when its text is checked.
    lines = lines_of(file, where, errors="surrogateescape")
    if format == "text":
        return ({TEXT: line.rstrip("\r\n")} for line in lines)
    return {"jsonl": json_lines, "csv": separated, "tsv": tabbed}[format](lines)


def _parquet(path: Path) -> Input:
    import pyarrow.parquet

    try:
        total = int(pyarrow.parquet.read_metadata(path).num_rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file, or damaged: {error}") from error
    count = 0

    def counted() -> Iterator[Record | Unreadable]:
        nonlocal count
        for record in parquet(path):
            count += 1
            yield record

    return Input(str(path), "parquet", counted(), total, lambda: count)
