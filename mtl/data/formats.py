"""File formats: JSON lines, CSV, tab-separated text and Parquet, read row by row."""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mtl.errors import UserError, shorten
from mtl.user_files import RepeatedKey, foreign_encoding, parse_json

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
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for number, record in enumerate(read(lines_of(file, str(path))), 1):
            if isinstance(record, Unreadable):
                raise UserError(f"{path}, row {number}: {record.reason}")
            yield record


def lines_of(file: Iterable[bytes], where: str, errors: str = "strict") -> Iterator[str]:
    """Lines of UTF-8 text including their line ends; a byte order mark is removed.

    Args:
        file: The lines as bytes.
        where: The file's name in errors.
        errors: The argument `errors` of `bytes.decode`.

    Raises:
        UserError: If a line is not UTF-8, or a gzip file is damaged.
    """
    number = 0
    try:
        for number, line in enumerate(file, 1):
            if number == 1:
                _check_first_line(line, where)
            yield line.decode("utf-8-sig" if number == 1 else "utf-8", errors)
    except UnicodeDecodeError as error:
        context = shorten(error.object[max(0, error.start - 20) : error.start + 20])
        raise UserError(
            f"{where}, line {number}: not UTF-8: {context}; save the file as UTF-8"
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(
            f"{where}, after line {number}: the gzip file is damaged or truncated: {error}"
        ) from error


def _check_first_line(line: bytes, where: str) -> None:
    """Names a file for what it is if its first line shows that it cannot be read as UTF-8 lines.

    Raises:
        UserError: If it is UTF-16 or UTF-32, or its lines end as on old Macs.
    """
    if encoding := foreign_encoding(line):
        raise UserError(f"{where}: is {encoding}; save the file as UTF-8")
    if b"\0" in line:
        raise UserError(f"{where}: is not text: it holds zero bytes; save the file as UTF-8 text")
    if b"\r" in line.rstrip(b"\r\n"):
        raise UserError(
            f"{where}, line 1: a carriage return within the line; if lines end with it, as on old "
            "Macs, save the file with line feeds (Unix or Windows line ends)"
        )


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
            yield Unreadable(f"not JSON: {error}: {shorten(line)}")
            continue
        if isinstance(record, dict):
            yield record
        else:
            yield Unreadable(
                f'expected an object such as {{"text": ...}}, got {shorten(record)}; write one '
                "object per line"
            )


def separated(
    lines: Iterable[str], delimiter: str = ",", names: list[str] | None = None
) -> Iterator[Record | Unreadable]:
    """Rows of a CSV file, quoted as in RFC 4180.

    Args:
        lines: The file's lines.
        delimiter: The character between two fields.
        names: Names of the columns; default: the first line.
    """
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
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
            yield Unreadable(f"not CSV, at {span}: {error}; double a quote inside a field", lost)
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
    remedy = "a text in a .tsv file cannot hold a tab or a line break; use .csv for such texts"
    for line in bare:
        if line:
            yield _record(header, line.split("\t"), remedy, ragged)


def _record(
    header: list[str], fields: list[str], remedy: str, ragged: bool = False
) -> Record | Unreadable:
    # Rows of the official GLUE files may be too short or too long; missing fields count as empty.
    if len(fields) != len(header) and not ragged:
        return Unreadable(
            f"{len(fields)} fields, but there are {len(header)} columns {header}; {remedy}"
        )
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

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if (repeated := _repeated(file.schema_arrow.names)) is not None:
                raise UserError(f"{path}: two columns are called {repeated!r}; rename one")
            for batch in file.iter_batches(1024):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file, or damaged: {error}") from error
