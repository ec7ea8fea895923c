"""Write tables in memory as a task: Parquet files and the task file that describes them."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import yaml
from datasets import Dataset

from mtl.errors import UserError, reject_unknown
from mtl.tasks import Task
from mtl.training.run_folder import atomic_output
from mtl.user_files import expand_path


def save_task(
    folder: str | Path,
    train: Any,
    validation: Any = None,
    test: Any = None,
    overwrite: bool = False,
    **fields: Any,
) -> Path:
    """Writes tables as a task that all commands take, so that a run can be resumed and repeated.

    Args:
        folder: Folder to write to; its name is the task's, unless `name` is given.
        train: Training examples: a data frame of pandas or Polars, a `datasets.Dataset`, a
            `pyarrow.Table`, or a list of dicts, with a column for each text and for the label.
        validation: Validation examples.
        test: Test examples.
        overwrite: Whether to replace the files of an earlier call.
        fields: Fields of the task file, such as `texts=["text"]`, `label="topic"` and
            `classes=["billing", "other"]`; see `mtl.tasks.Task`.

    Returns:
        The task file.

    Raises:
        UserError: If the folder exists, a table cannot be used, or a column is missing. Nothing is
            written then.
    """
    folder = expand_path(folder).absolute()
    file = folder / "task.yaml"
    if folder.exists() and not overwrite:
        raise UserError(f"{folder}: exists; give another folder, or overwrite=True to replace it")
    fields = {"name": folder.name} | fields
    source = fields.get("source", {})
    task = Task.read(fields | {"source": source | {"path": str(folder)}})
    given = {"train": train, "validation": validation, "test": test}
    tables = {split: _table(rows, split) for split, rows in given.items() if rows is not None}
    needed = dict.fromkeys([*task.text_columns, *task.label_columns])
    for split, table in tables.items():
        reject_unknown(f"{split} of task {task.name!r}", "column", needed, table.column_names)
    for split, table in tables.items():
        with atomic_output(folder / f"{split}.parquet") as path:
            pyarrow.parquet.write_table(table, path)
    for split in given.keys() - tables.keys():
        (folder / f"{split}.parquet").unlink(missing_ok=True)
    fields |= {"source": source | {"path": "."}}
    content = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    with atomic_output(file) as path:
        path.write_text(content, encoding="utf-8")
    return file


def _table(rows: Any, split: str) -> pa.Table:
    """The rows as a table of Arrow."""
    try:
        if isinstance(rows, Dataset):
            return rows.with_format("arrow")[:]
        if isinstance(rows, list):
            return pa.Table.from_pylist(rows)
        # Without the index, which pandas would write as a column.
        reset = getattr(rows, "reset_index", None)
        return pa.table(reset(drop=True) if reset else rows)
    except (pa.ArrowException, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{split}: not a table: {error}; give a data frame, a Dataset, or a list of dicts"
        ) from error
