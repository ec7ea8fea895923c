"""Finds and opens the split of a task: a data set on the hub, or a local file."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mtl.data.formats import (
    Record,
    TextReader,
    json_lines,
    parquet,
    separated,
    tabbed,
    text_records,
)
from mtl.data.hub import load_hub_split
from mtl.errors import UserError, did_you_mean
from mtl.tasks import Task
from mtl.training.run_folder import file_digest
from mtl.user_files import expand_path

EXTENSIONS = (".jsonl", ".csv", ".tsv", ".txt", ".parquet")
# Other names that published folders use for a split.
ALIASES = {"validation": ("dev", "val")}
# Column names of the official GLUE download that differ from the hub's, by the hub's configuration.
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
    """The examples of one split, opened but not yet read.

    Attributes:
        where: The file's or data set's name in errors.
        fingerprint: Changes whenever the examples do.
        records: Iterates over the examples from the first one on, as mappings of column names; may
            be called several times.
        columns: The source's names of those of the task's columns that have another name there.
    """

    where: str
    fingerprint: str
    records: Callable[[], Iterator[Record]]
    columns: dict[str, str]


def open_split(task: Task, split: str, root: Path | None = None) -> Split:
    """Opens a split of a task.

    Args:
        task: The task.
        split: Name of the split in the task's source.
        root: Folder whose sub-folders hold the tasks' files; default: the task's own source.

    Raises:
        UserError: If there is no such folder, file or data set.
    """
    source = task.source
    if root is not None:
        # Columns of a hub task are renamed on the hub only; its local files have the task's names.
        columns = {} if source.hub else source.columns
        return _open_file(task, split, task_folder(task, root), columns)
    if source.path:
        return _open_file(task, split, Path(source.path), source.columns)
    if source.hub:
        return _open_hub(task, source.hub, split)
    folder = source.folder or task.name
    raise UserError(
        f"task {task.name!r} has no source of its own: give --data.root DIR, where DIR/{folder}/ "
        "holds its files"
    )


def task_folder(task: Task, root: Path) -> Path:
    """The task's folder under the root, ignoring case and punctuation: `SST-2` serves `sst2`.

    Raises:
        UserError: If there is no such folder.
    """
    name = task.source.folder or task.name
    if not root.is_dir():
        raise UserError(
            f"{root}: there is no such folder, but task {task.name!r} looks for its examples there"
        )
    if (root / name).is_dir():
        return root / name
    folders = [folder for folder in sorted(root.iterdir()) if folder.is_dir()]
    by_letters = {_letters(folder.name): folder for folder in folders}
    if _letters(name) not in by_letters:
        hint = did_you_mean(name, [folder.name for folder in folders])
        raise UserError(f"{root}: there is no folder {name!r} for task {task.name!r}.{hint}")
    return by_letters[_letters(name)]


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _open_hub(task: Task, hub: str, split: str) -> Split:
    source = task.source
    where = f"{hub}{f' ({source.config})' if source.config else ''}, split {split}"
    try:
        data = load_hub_split(hub, source.config, split, source.revision)
    except UserError as error:
        raise UserError(
            f"task {task.name!r}: cannot load {where}: {error}. Without a connection, give "
            f"--data.root DIR, where DIR/{source.folder or task.name}/ holds the files"
        ) from error
    return Split(where, str(data._fingerprint), lambda: iter(data), dict(source.columns))


def _open_file(task: Task, split: str, folder: Path, columns: dict[str, str]) -> Split:
    path = _split_file(task, split, folder)
    try:
        fingerprint = file_digest(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    extension = _extension(path)
    if extension == ".parquet":
        return Split(str(path), fingerprint, partial(parquet, path), columns)
    if _has_glue_layout(task, extension):
        columns = GLUE_HEADERS.get(str(task.source.config), {})
    records = partial(text_records, path, _text_reader(task, path))
    return Split(str(path), fingerprint, records, columns)


def _extension(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _has_glue_layout(task: Task, extension: str) -> bool:
    """Whether a file is laid out as in the GLUE download; LM-BFF's .tsv files are copies of it."""
    layout = task.source.format
    if extension == ".jsonl":
        return False
    return layout == "glue" or (layout == "lmbff" and extension != ".csv")


def _text_reader(task: Task, path: Path) -> TextReader:
    source, extension = task.source, _extension(path)
    if extension == ".jsonl":
        return json_lines
    if _has_glue_layout(task, extension):
        without_header = source.config == "cola" and not path.name.startswith("test")
        return partial(tabbed, names=COLA_COLUMNS if without_header else None, ragged=True)
    if source.format == "mft":
        return partial(separated, delimiter="\t", names=[*task.texts, "domain", task.label])
    if source.format == "cs224n":
        return partial(separated, delimiter="\t")
    if source.format == "lmbff":
        return partial(separated, names=[task.label, *task.texts])
    return separated if extension == ".csv" else tabbed


def _split_file(task: Task, split: str, folder: Path) -> Path:
    """The one file of a split in a folder."""
    if split in task.source.files:
        return _declared_file(task, folder / expand_path(task.source.files[split]))
    folders, stems = _candidates(task, split, folder)
    for candidate in folders:
        for stem in stems:
            files = [
                file
                for extension in EXTENSIONS
                for file in (
                    candidate / f"{stem}{extension}",
                    candidate / f"{stem}{extension}.gz",
                )
                if file.is_file()
            ]
            if len(files) > 1:
                names = " and ".join(file.name for file in files)
                raise UserError(
                    f"task {task.name!r}: {candidate} holds {names}; choose one with source.files"
                )
            if files:
                return files[0]
    # A folder named like the file, as Spark writes it.
    for name in (f"{stem}{extension}" for stem in stems for extension in EXTENSIONS):
        if (folder / name).is_symlink() and not (folder / name).exists():
            raise UserError(
                f"task {task.name!r}: {folder / name} is a link to a file that does not exist"
            )
        if (folder / name).is_dir():
            raise UserError(
                f"task {task.name!r}: {folder / name} is a folder; give a file of that name, or "
                "the name of a file in source.files"
            )
    other = sorted(file for stem in stems for file in folder.glob(f"{stem}.*") if file.is_file())
    if other:
        raise UserError(
            f"task {task.name!r}: {other[0]}: unsupported ending. Supported: "
            f"{', '.join(EXTENSIONS)}, or the same with .gz; save the file as one of these"
        )
    if folder.is_dir():
        present = sorted(file.name for file in folder.iterdir())
        content = f"it holds {', '.join(present[:12]) or 'nothing'}"
    else:
        content = "a file; give its folder" if folder.is_file() else "there is no such folder"
    raise UserError(
        f"task {task.name!r}: no file for split {split!r} in {folder} ({content}); looked for "
        f"{' or '.join(stems)} with one of {', '.join(EXTENSIONS)}, or the same with .gz. Give "
        "the file's name in the task's source.files, or the name of an existing split in its splits"
    )


def _declared_file(task: Task, path: Path) -> Path:
    gzipped = path.with_name(f"{path.name}.gz")
    for file in (path, gzipped):
        if file.is_file():
            if _extension(file) not in EXTENSIONS:
                raise UserError(
                    f"task {task.name!r}: {file}: the ending gives the format; rename the file to "
                    f"one of {', '.join(EXTENSIONS)} (each also .gz)"
                )
            return file
    fault = "is a folder" if path.is_dir() else "there is no such file"
    raise UserError(f"task {task.name!r}: {path}: {fault}; correct source.files")


def _candidates(task: Task, split: str, folder: Path) -> tuple[list[Path], list[str]]:
    """Folders to search in this order, and in each of them the file names without extension."""
    base, _, suffix = split.partition("_")  # `validation_matched`
    aliases = ALIASES.get(base, ())
    folders = [folder]
    stems = [split, *(f"{alias}_{suffix}" if suffix else alias for alias in aliases)]
    if task.source.format == "lmbff":
        # All k-shot folders of a task share one test file; those of MNLI have one validation file.
        folders.append(folder.parent)
        stems += ["dev_matched"] if split == "validation" else []
    return folders, stems
