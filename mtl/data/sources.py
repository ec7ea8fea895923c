"""Rows of a task's split, from the hub or from local files: one small function per format, none holds a whole file."""

import csv
import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mtl.tasks import Task
from mtl.text import DataError, nearest, shortened

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
        DataError: If there is no such folder, file or data set; the message says what was looked for and what is there.
    """
    source = task.source
    if root is not None:  # the columns of a hub task are renamed on the hub; its files here have the task's own names
        return _local(task, split, task_folder(task, root), {} if source.hub else source.columns)
    if source.path:
        return _local(task, split, Path(source.path), source.columns)
    if source.hub:
        return _hub(task, split)
    folder = source.folder or task.name
    raise DataError(f"task {task.name!r} has no source of its own: give --data.root DIR, where DIR/{folder}/ holds its files")


def task_folder(task: Task, root: Path) -> Path:
    """The task's folder under the root, whatever its case and punctuation: `SST-2` serves `sst2`."""
    wanted = task.source.folder or task.name
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder, where task {task.name!r} looks for its rows")
    folders = {_plain(folder.name): folder for folder in sorted(root.iterdir()) if folder.is_dir()}
    if (root / wanted).is_dir():
        return root / wanted
    if _plain(wanted) not in folders:
        names = [folder.name for folder in folders.values()]
        raise DataError(f"{root}: there is no folder {wanted!r} for task {task.name!r}.{nearest(wanted, names)}")
    return folders[_plain(wanted)]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _hub(task: Task, split: str) -> Split:
    import datasets  # a second to import, and only the hub needs it

    source = task.source
    where = f"{source.hub}{f' ({source.config})' if source.config else ''}, split {split}"
    try:
        rows = datasets.load_dataset(str(source.hub), source.config, split=split, revision=source.revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"task {task.name!r}: cannot load {where}: {error}. "
            f"Without a connection, give --data.root DIR, where DIR/{source.folder or task.name}/ holds the rows as files."
        ) from error
    return Split(where, str(rows._fingerprint), lambda: iter(rows), dict(source.columns))


def _local(task: Task, split: str, folder: Path, columns: dict[str, str]) -> Split:
    source = task.source
    path = _file(task, split, folder)
    kind = Path(path.name.removesuffix(".gz")).suffix
    read: Callable[[Path], Iterator[Record]]
    if kind in (".jsonl", ".parquet"):
        read = _jsonl if kind == ".jsonl" else _parquet
    elif source.format == "mft":
        read = partial(_csv, delimiter="\t", names=[*task.texts, "domain", task.label])
    elif source.format == "cs224n":
        read = partial(_csv, delimiter="\t")
    elif source.format == "lmbff" and kind == ".csv":
        read = partial(_csv, names=[task.label, *task.texts])
    elif source.format in ("glue", "lmbff"):
        columns = GLUE_HEADERS.get(str(source.config), {})
        headless = source.config == "cola" and not path.name.startswith("test")
        read = partial(_tabbed, names=COLA_COLUMNS if headless else None, ragged=True)
    else:
        read = _csv if kind == ".csv" else _tabbed
    with path.open("rb") as file:
        fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
    return Split(str(path), fingerprint, partial(read, path), columns)


def _file(task: Task, split: str, folder: Path) -> Path:
    """The one file of a split in a folder."""
    if split in task.source.files:
        path = folder / task.source.files[split]
        packed = path.with_name(f"{path.name}.gz")
        if packed.is_file() and not path.is_file():
            return packed
        if not path.is_file():
            raise DataError(f"task {task.name!r}: {path}: there is no such file")
        return path
    base, _, part = split.partition("_")
    stems = [split, *(f"{alias}_{part}" if part else alias for alias in ALIASES.get(base, ()))]
    places = [folder]
    if task.source.format == "lmbff":  # one test file serves all draws of a task; the MNLI draw has one validation file
        places.append(folder.parent)
        stems += ["dev_matched"] if split == "validation" else []
    for place in places:
        for stem in stems:
            found = [
                file for kind in EXTENSIONS for file in (place / f"{stem}{kind}", place / f"{stem}{kind}.gz") if file.is_file()
            ]
            if len(found) > 1:
                names = " and ".join(file.name for file in found)
                raise DataError(f"task {task.name!r}: {place} holds {names}; say which one is meant with source.files")
            if found:
                return found[0]
    present = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    what = f"it holds {', '.join(present[:12]) or 'nothing'}" if folder.is_dir() else "there is no such folder"
    raise DataError(
        f"task {task.name!r}: no file for split {split!r} in {folder} ({what}); "
        f"looked for {' or '.join(stems)} with one of {', '.join(EXTENSIONS)}, or the same with .gz"
    )


def _lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 text file, gzip or not, with their line ends; a byte order mark is left out."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        number = 0
        try:
            for number, line in enumerate(file, 1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            around = shortened(error.object[max(0, error.start - 20) : error.start + 20])
            raise DataError(f"{path}, line {number}: not UTF-8: {around}; save the file as UTF-8") from error
        except (gzip.BadGzipFile, EOFError) as error:
            raise DataError(f"{path}, after line {number}: the gzip file is damaged or cut off: {error}") from error


def _jsonl(path: Path) -> Iterator[Record]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, row {number}: not JSON: {error}: {shortened(line)}") from error
        if not isinstance(record, dict):
            raise DataError(f'{path}, row {number}: a row is an object such as {{"text": ...}}, not {shortened(record)}')
        yield record


def _csv(path: Path, delimiter: str = ",", names: list[str] | None = None) -> Iterator[Record]:
    """Rows of a CSV file with quoting as in RFC 4180; the first line gives the columns unless names do."""
    reader = csv.reader(_lines(path), delimiter=delimiter, strict=True)
    try:
        header = names or next(reader, [])
        for number, fields in enumerate(reader, 1):
            if fields:
                yield _record(path, number, header, fields)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV: {error}; a quote inside a field is written twice") from error


def _tabbed(path: Path, names: list[str] | None = None, ragged: bool = False) -> Iterator[Record]:
    """Rows of a tab-separated file without quoting, so that a lone quote in a sentence swallows nothing."""
    lines = (line.rstrip("\r\n") for line in _lines(path))
    header = names or next(lines, "").split("\t")
    for number, line in enumerate(lines, 1):
        if line:
            yield _record(path, number, header, line.split("\t"), ragged)


def _record(path: Path, number: int, header: list[str], fields: list[str], ragged: bool = False) -> Record:
    # Rows of the official GLUE files may be cut short or run on; what is missing then counts as an empty field.
    if len(fields) != len(header) and not ragged:
        raise DataError(f"{path}, row {number}: {len(fields)} fields where the {len(header)} columns {header} were expected")
    return dict(zip(header, fields + [""] * (len(header) - len(fields)), strict=False))


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(1024):
                yield from batch.to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path}: not Parquet: {error}") from error
