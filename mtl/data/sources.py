"""Rows of a task's split, from the hub or from local files: one small function per format, none holds a whole file."""

import csv
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mtl.errors import UserError, did_you_mean, shorten
from mtl.tasks import Task

Record = dict[str, Any]

# Longest field read from a CSV file, in characters; Python's own limit of 131,072 is below a long document.
csv.field_size_limit(2**27)

EXTENSIONS = (".jsonl", ".csv", ".tsv", ".txt", ".parquet")
# What published folders call a split, beside its own name.
ALIASES = {"validation": ("dev", "val"), "train": (), "test": ()}
# Headers of the official GLUE download where they differ from the hub's column names, by the hub's configuration.
GLUE_HEADERS = {
    "mrpc": {"sentence1": "#1 String", "sentence2": "#2 String", "label": "Quality"},
    "qqp": {"label": "is_duplicate"},
    "stsb": {"label": "score"},
    "mnli": {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"},
    "snli": {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"},
}
# CoLA's train and dev files have no header; its test file has one.
COLA_COLUMNS = ["source", "label", "star", "sentence"]


class Unreadable(NamedTuple):
    """A row of a file that cannot be read, in its place among the others.

    Attributes:
        reason: What is wrong with it.
        lost: Whether the rows after it are lost too, for nobody knows where the next one begins.
    """

    reason: str
    lost: bool = False


class Split(NamedTuple):
    """The rows of one split, opened but not read.

    Attributes:
        where: The file or data set, as errors name it.
        fingerprint: Changes whenever the rows do.
        records: Gives the rows from the first one on, each a mapping of column names; may be called again.
        columns: The source's name for each of the task's columns that has another one there.
    """

    where: str
    fingerprint: str
    records: Callable[[], Iterator[Record]]
    columns: dict[str, str]


def open_split(task: Task, split: str, root: Path | None = None) -> Split:
    """The rows of a task's split: from `root/<task>/` where a root is given, else from the task's source.

    Raises:
        UserError: If there is no such folder, file or data set; the message says what was looked for and what is there.
    """
    source = task.source
    if (
        root is not None
    ):  # the columns of a hub task are renamed on the hub; its files here have the task's own names
        return _local(task, split, task_folder(task, root), {} if source.hub else source.columns)
    if source.path:
        return _local(task, split, Path(source.path), source.columns)
    if source.hub:
        return _hub(task, split)
    folder = source.folder or task.name
    raise UserError(
        f"task {task.name!r} has no source of its own: give --data.root DIR, where DIR/{folder}/ holds its files"
    )


def task_folder(task: Task, root: Path) -> Path:
    """The task's folder under the root, whatever its case and punctuation: `SST-2` serves `sst2`."""
    wanted = task.source.folder or task.name
    if not root.is_dir():
        raise UserError(
            f"{root}: there is no such folder, where task {task.name!r} looks for its rows"
        )
    folders = {_plain(folder.name): folder for folder in sorted(root.iterdir()) if folder.is_dir()}
    if (root / wanted).is_dir():
        return root / wanted
    if _plain(wanted) not in folders:
        names = [folder.name for folder in folders.values()]
        raise UserError(
            f"{root}: there is no folder {wanted!r} for task {task.name!r}.{did_you_mean(wanted, names)}"
        )
    return folders[_plain(wanted)]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _hub(task: Task, split: str) -> Split:
    import datasets  # a second to import, and only the hub needs it

    source = task.source
    where = f"{source.hub}{f' ({source.config})' if source.config else ''}, split {split}"
    try:
        rows = datasets.load_dataset(
            str(source.hub), source.config, split=split, revision=source.revision
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"task {task.name!r}: cannot load {where}: {error}. "
            f"Without a connection, give --data.root DIR, where DIR/{source.folder or task.name}/ holds the rows as files."
        ) from error
    return Split(where, str(rows._fingerprint), lambda: iter(rows), dict(source.columns))


def _local(task: Task, split: str, folder: Path, columns: dict[str, str]) -> Split:
    source = task.source
    path = _file(task, split, folder)
    kind = Path(path.name.removesuffix(".gz")).suffix
    read: Callable[[Iterator[str]], Iterator[Record | Unreadable]] | None
    if kind in (".jsonl", ".parquet"):
        read = json_lines if kind == ".jsonl" else None
    elif source.format == "mft":
        read = partial(separated, delimiter="\t", names=[*task.texts, "domain", task.label])
    elif source.format == "cs224n":
        read = partial(separated, delimiter="\t")
    elif source.format == "lmbff" and kind == ".csv":
        read = partial(separated, names=[task.label, *task.texts])
    elif source.format in ("glue", "lmbff"):
        columns = GLUE_HEADERS.get(str(source.config), {})
        headless = source.config == "cola" and not path.name.startswith("test")
        read = partial(tabbed, names=COLA_COLUMNS if headless else None, ragged=True)
    else:
        read = separated if kind == ".csv" else tabbed
    with path.open("rb") as file:
        fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
    records = partial(_text, path, read) if read else partial(parquet, path)
    return Split(str(path), fingerprint, records, columns)


def _file(task: Task, split: str, folder: Path) -> Path:
    """The one file of a split in a folder."""
    if split in task.source.files:
        path = folder / task.source.files[split]
        packed = path.with_name(f"{path.name}.gz")
        if packed.is_file() and not path.is_file():
            return packed
        if not path.is_file():
            raise UserError(f"task {task.name!r}: {path}: there is no such file")
        return path
    base, _, part = split.partition("_")
    stems = [split, *(f"{alias}_{part}" if part else alias for alias in ALIASES.get(base, ()))]
    places = [folder]
    if (
        task.source.format == "lmbff"
    ):  # one test file serves all draws of a task; the MNLI draw has one validation file
        places.append(folder.parent)
        stems += ["dev_matched"] if split == "validation" else []
    for place in places:
        for stem in stems:
            found = [
                file
                for kind in EXTENSIONS
                for file in (place / f"{stem}{kind}", place / f"{stem}{kind}.gz")
                if file.is_file()
            ]
            if len(found) > 1:
                names = " and ".join(file.name for file in found)
                raise UserError(
                    f"task {task.name!r}: {place} holds {names}; say which one is meant with source.files"
                )
            if found:
                return found[0]
    present = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    what = (
        f"it holds {', '.join(present[:12]) or 'nothing'}"
        if folder.is_dir()
        else "there is no such folder"
    )
    raise UserError(
        f"task {task.name!r}: no file for split {split!r} in {folder} ({what}); "
        f"looked for {' or '.join(stems)} with one of {', '.join(EXTENSIONS)}, or the same with .gz. "
        f"Name the file in the task's source.files, or in its splits one that is there"
    )


def _text(
    path: Path, read: Callable[[Iterator[str]], Iterator[Record | Unreadable]]
) -> Iterator[Record]:
    """Rows of a text file, all of which can be read."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for number, row in enumerate(read(lines_of(file, str(path))), 1):
            if isinstance(row, Unreadable):
                raise UserError(f"{path}, row {number}: {row.reason}")
            yield row


def lines_of(file: Iterable[bytes], where: str, errors: str = "strict") -> Iterator[str]:
    """Lines of UTF-8 text with their line ends; a byte order mark is left out.

    Args:
        file: The lines as bytes.
        where: The file, as errors name it.
        errors: What `bytes.decode` does with a line that is not UTF-8.

    Raises:
        UserError: If a line is not UTF-8, or a gzip file is damaged.
    """
    number = 0
    try:
        for number, line in enumerate(file, 1):
            yield line.decode("utf-8-sig" if number == 1 else "utf-8", errors)
    except UnicodeDecodeError as error:
        around = shorten(error.object[max(0, error.start - 20) : error.start + 20])
        raise UserError(
            f"{where}, line {number}: not UTF-8: {around}; save the file as UTF-8"
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(
            f"{where}, after line {number}: the gzip file is damaged or cut off: {error}"
        ) from error


def json_lines(lines: Iterable[str]) -> Iterator[Record | Unreadable]:
    """Rows of a JSON-lines file, an object each."""
    for line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (
            ValueError,
            RecursionError,
        ) as error:  # a number of thousands of digits is a ValueError
            yield Unreadable(f"not JSON: {error}: {shorten(line)}")
            continue
        if isinstance(record, dict):
            yield record
        else:
            yield Unreadable(f'a row is an object such as {{"text": ...}}, not {shorten(record)}')


def separated(
    lines: Iterable[str], delimiter: str = ",", names: list[str] | None = None
) -> Iterator[Record | Unreadable]:
    """Rows of a CSV file with quoting as in RFC 4180; the first line gives the columns unless names do."""
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
            lines_said = f"line {end}" if start == end else f"lines {start} to {end}"
            lost = header is None or end > start
            yield Unreadable(
                f"not CSV, at {lines_said}: {error}; a quote inside a field is written twice", lost
            )
            if lost:
                return
            continue
        if header is None:
            header = fields
            if twice := _twice([name for name in header if name]):
                yield Unreadable(f"two columns are called {twice!r}", lost=True)
                return
        elif fields:
            yield _record(
                header, fields, "a text with a comma or a line break in it is put in quotes"
            )


def tabbed(
    lines: Iterable[str], names: list[str] | None = None, ragged: bool = False
) -> Iterator[Record | Unreadable]:
    """Rows of a tab-separated file without quoting, so that a lone quote in a sentence swallows nothing."""
    bare = (line.rstrip("\r\n") for line in lines)
    header = names or next(bare, "").split("\t")
    for line in bare:
        if line:
            yield _record(
                header,
                line.split("\t"),
                "a text cannot hold a tab or a line break here, in .csv it can",
                ragged,
            )


def _record(
    header: list[str], fields: list[str], remedy: str, ragged: bool = False
) -> Record | Unreadable:
    # Rows of the official GLUE files may be cut short or run on; what is missing then counts as an empty field.
    if len(fields) != len(header) and not ragged:
        return Unreadable(
            f"{len(fields)} fields where the {len(header)} columns {header} were expected; {remedy}"
        )
    return dict(zip(header, fields + [""] * (len(header) - len(fields)), strict=False))


def _twice(names: list[str]) -> str | None:
    """The first name that was there before; None where each is there once."""
    return next((name for place, name in enumerate(names) if name in names[:place]), None)


def parquet(path: Path) -> Iterator[Record]:
    """Rows of a Parquet file.

    Raises:
        UserError: If it is none, or two columns have one name.
    """
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if (twice := _twice(file.schema_arrow.names)) is not None:
                raise UserError(f"{path}: two columns are called {twice!r}; rename one")
            for batch in file.iter_batches(1024):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not Parquet, or damaged: {error}") from error
