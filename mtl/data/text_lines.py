"""Lines of UTF-8 text files; a file that holds something else is named for what it is."""

import gzip
import zlib
from collections.abc import Iterable, Iterator

from mtl.errors import UserError, shorten
from mtl.user_files import foreign_encoding

# The first bytes of files that are often given another extension, and what they are.
SIGNATURES = {
    b"\x1f\x8b": "is gzipped; give its name the ending .gz",
    b"PK\x03\x04": "is a ZIP archive or a spreadsheet (.xlsx); unpack it, or save it as .csv",
    b"\xd0\xcf\x11\xe0": "is an old spreadsheet (.xls); save it as .csv",
    b"PAR1": "is a Parquet file; give its name the ending .parquet",
    b"ARROW1": "is an Arrow file; save it as .parquet",
    b"SQLite format 3": "is an SQLite database; save the table as .csv",
    b"%PDF": "is a PDF; save its data as .csv",
    b"BZh": "is compressed with bzip2; compress it with gzip (.gz) instead, or unpack it",
    b"\xfd7zXZ": "is compressed with xz; compress it with gzip (.gz) instead, or unpack it",
    b"(\xb5/\xfd": "is compressed with zstd; compress it with gzip (.gz) instead, or unpack it",
    b"version https://git-lfs.": "is a pointer of Git LFS; fetch the file with `git lfs pull`",
    b"<!DOCTYPE": "is a web page; download the data file itself",
    b"<html": "is a web page; download the data file itself",
}


def content_fault(start: bytes) -> str | None:
    """What a file is whose first bytes show that it is not a text file of examples."""
    if encoding := foreign_encoding(start):
        return f"is {encoding}; save the file as UTF-8"
    for signature, fault in SIGNATURES.items():
        if start.startswith(signature):
            return fault
    return None


def lines_of(file: Iterable[bytes], where: str, errors: str = "strict") -> Iterator[str]:
    """Lines of UTF-8 text including their line ends; byte order marks at the start are removed.

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
            text = line.decode("utf-8", errors)
            yield text.lstrip("\ufeff") if number == 1 else text
    except UnicodeDecodeError as error:
        context = shorten(error.object[max(0, error.start - 20) : error.start + 20])
        raise UserError(
            f"{where}, line {number}: not UTF-8: {context}; save the file as UTF-8"
        ) from error
    except gzip.BadGzipFile as error:
        if number:
            raise UserError(
                f"{where}, after line {number}: the gzip file is damaged: {error}"
            ) from error
        raise UserError(
            f"{where}: not a gzip file, although its name ends in .gz; compress or rename it"
        ) from error
    except (EOFError, zlib.error) as error:
        raise UserError(
            f"{where}, after line {number}: the gzip file is damaged or truncated: {error}"
        ) from error


def _check_first_line(line: bytes, where: str) -> None:
    """Refuses a file whose first line shows that it cannot be read as UTF-8 lines.

    Raises:
        UserError: If it is something else, or its lines end as on old Macs.
    """
    if fault := content_fault(line):
        raise UserError(f"{where}: {fault}")
    if b"\0" in line:
        raise UserError(f"{where}: is not text: it holds zero bytes; save the file as UTF-8 text")
    if b"\r" in line.rstrip(b"\r\n"):
        raise UserError(
            f"{where}, line 1: a carriage return within the line; if lines end with it, as on old "
            "Macs, save the file with line feeds (Unix or Windows line ends)"
        )
