"""File formats: JSON lines, CSV, tab-separated text and Parquet, read row by row."""

import csv
import gzip
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from mtl.data.text_lines import content_fault, lines_of
from mtl.errors import UserError, shorten
from mtl.user_files import RepeatedKey, parse_json

Record = dict[str, Any]

# Longest field of a CSV file in characters. Some documents exceed Python's limit of 131,072.
csv.field_size_limit(2**27)


class Unreadable(NamedTuple):
    """A row that cannot be read, yielded in its position among the readable ones.

    Attributes:
        reason: What is wrong with the row.
        lost: Whether the rest of the file cannot be read either, because the start of the next row
            is unknown.
    """

    reason: str
    lost: bool = False


TextReader = Callable[[Iterator[str]], Iterator[Record | Unreadable]]


def text_records(path: Path, read: TextReader) -> Iterator[Record]:
    """The rows of a text file, plain or gzipped.

    Args:
        path: The file.
        read: The reader of its format.

    Raises:
        UserError: If a row cannot be read.
    """
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
        number = 0
        for number, record in enumerate(read(lines_of(file, str(path))), 1):
            if isinstance(record, Unreadable):
                raise UserError(f"{path}, row {number}: {record.reason}")
            yield record
        if not number:
            empty = not path.stat().st_size
            fault = "is empty" if empty else "has no rows, only a header or empty lines"
            raise UserError(f"{path}: the file {fault}; add examples")


def json_lines(lines: Iterable[str]) -> Iterator[Record | Unreadable]:
    """Rows of a JSON-lines file, one object per line."""
    start = True
    for line in lines:
        if not line.strip():
            continue
        if start and line.lstrip().startswith("["):
            yield Unreadable(
                f"the file holds a JSON array, {shorten(line)}; write one object per line "
                "(jq -c '.[]' FILE.json > FILE.jsonl)",
                lost=True,
            )
            return
        start = False
        try:
            record = parse_json(line)
        except RepeatedKey as error:
            yield Unreadable(f"{error}: {shorten(line)}")
            continue
        # A number with thousands of digits is a ValueError too.
        except (ValueError, RecursionError) as error:
            yield Unreadable(f"not JSON: {error}: {shorten(line)}; {_json_remedy(line)}")
            continue
        if isinstance(record, dict):
            yield record
        else:
            yield Unreadable(
                f'expected an object such as {{"text": ...}}, got {shorten(record)}; write one '
                "object per line"
            )


def _json_remedy(line: str) -> str:
    if line.strip() in ("{", "{}"):
        return "write each object on one line (jq -c . FILE.json > FILE.jsonl)"
    return 'each line is one object, such as {"text": ...}'


def separated(
    lines: Iterable[str], delimiter: str = ",", names: list[str] | None = None
) -> Iterator[Record | Unreadable]:
    """Rows of a CSV file, quoted as in RFC 4180.

    Args:
        lines: The file's lines.
        delimiter: The character between two fields.
        names: Names of the columns; default: the first line.
    """
    lines = iter(lines)
    first = next(lines, "")
    if first.lstrip().startswith('{"'):
        yield Unreadable("the file holds JSON lines; give its name the ending .jsonl", lost=True)
        return
    reader = csv.reader(chain([first] * bool(first), lines), delimiter=delimiter, strict=True)
    header = names
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            end = reader.line_num
            span = f"line {end}" if start == end else f"lines {start} to {end}"
            lost = header is None or end > start
            yield Unreadable(f"not CSV, at {span}: {_csv_fault(error, start)}", lost)
            if lost:
                return
            continue
        if header is None:
            header = fields
            if repeated := _repeated([name for name in header if name]):
                yield Unreadable(f"two columns are called {repeated!r}; rename one", lost=True)
                return
        elif fields:
            yield _record(header, fields, "quote a text that holds a comma or a line break")


def _csv_fault(error: csv.Error, line: int) -> str:
    """What an error of the CSV parser means, and what to do."""
    if "unexpected end of data" in str(error):
        return f"a quote that opens at line {line} is not closed; close it, or double it"
    if "new-line character" in str(error):
        return "a carriage return within a field; quote the field, or end all lines alike"
    return f"{error}; double a quote inside a field"


def tabbed(
    lines: Iterable[str], names: list[str] | None = None, ragged: bool = False
) -> Iterator[Record | Unreadable]:
    """Rows of a tab-separated file without quoting: a lone quote in a sentence is just a character.

    Args:
        lines: The file's lines.
        names: Names of the columns; default: the first line.
        ragged: Whether rows may have too few or too many fields.
    """
    bare = (line.rstrip("\r\n") for line in lines)
    header = names or next(bare, "").split("\t")
    if repeated := _repeated([name for name in header if name]):
        yield Unreadable(f"two columns are called {repeated!r}; rename one", lost=True)
        return
    remedy = "a text in a .tsv file cannot hold a tab or a line break; use .csv for such texts"
    for line in bare:
        if line:
            yield _record(header, line.split("\t"), remedy, ragged)


def _record(
    header: list[str], fields: list[str], remedy: str, ragged: bool = False
) -> Record | Unreadable:
    # Rows of the official GLUE files may be too short or too long; missing fields count as empty.
    if len(fields) != len(header) and not ragged:
        count = f"{len(fields)} field{'s' * (len(fields) > 1)}"
        columns = f"{len(header)} column{'s' * (len(header) > 1)} {header}"
        if len(fields) < len(header):
            remedy = "write a delimiter for an empty field too, and quote a text with a line break"
        return Unreadable(f"{count}, but there are {columns}; {remedy}")
    return dict(zip(header, fields + [""] * (len(header) - len(fields)), strict=False))


def _repeated(names: list[str]) -> str | None:
    """The first name that occurs a second time; None if all names differ."""
    return next((name for index, name in enumerate(names) if name in names[:index]), None)


def parquet(path: Path) -> Iterator[Record]:
    """Rows of a Parquet file.

    Raises:
        UserError: If it is not a Parquet file, or two columns have the same name.
    """
    import pyarrow.parquet

    with path.open("rb") as start:
        if not (head := start.read(64)).startswith(b"PAR1"):
            fault = content_fault(head) or "not a Parquet file, although its name ends in .parquet"
            raise UserError(f"{path}: {fault}")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if (repeated := _repeated(file.schema_arrow.names)) is not None:
                raise UserError(f"{path}: two columns are called {repeated!r}; rename one")
            for batch in file.iter_batches(1024):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file, or damaged: {error}") from error
