"""Write predictions as a Parquet file."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from mtl.errors import UserError, shorten
from mtl.inference.engine import Outputs, output_rows
from mtl.inference.layout import Layout


class ParquetWriter(AbstractContextManager["ParquetWriter"]):
    """Context manager: writes the columns of CSV files, with their types.

    The index of the row is an integer, kept columns have the type that the first rows show,
    predicted classes are strings, numbers and probabilities are floats. Predictions that are left
    empty are null.

    Args:
        path: The file.
        layout: What is written.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path, self.layout = path, layout
        self._kept: list[pa.Field] = []
        self._writer: Any = None

    def __exit__(self, *_: object) -> None:
        """Completes the file; without rows it has the columns only."""
        (self._writer or self._open([])).close()

    def write(
        self,
        rows: Sequence[int],
        kept: Sequence[Mapping[str, Any]],
        outputs: Mapping[str, Outputs],
    ) -> None:
        """Writes some rows; see `PredictionWriter`.

        Raises:
            UserError: If a kept column has values of several types.
        """
        if not rows:
            return
        self._writer = self._writer or self._open(kept)
        arrays = [pa.array(rows, pa.int64())]
        for field in self._kept:
            arrays.append(_typed(field, rows, [each.get(field.name) for each in kept]))
        for task in self.layout.tasks:
            cells: list[list[Any]] = []
            for values in output_rows(outputs[task.name]):
                first, *others = task.kind.csv_cells(values)
                empty = self.layout.is_empty(task, values)
                cells.append([None if empty else first, *others])
            columns = zip(*cells, strict=True)
            arrays += [pa.array(column) for column in columns]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._writer.schema))

    def _open(self, kept: Sequence[Mapping[str, Any]]) -> Any:
        """Opens the file; returns pyarrow's writer.

        Args:
            kept: The kept columns of the first rows.
        """
        self._kept = [_field(name, [each.get(name) for each in kept]) for name in self.layout.kept]
        fields = [pa.field("row", pa.int64()), *self._kept]
        for task in self.layout.tasks:
            first, *others = task.kind.csv_columns(task.name)
            number = task.kind.value_range is not None
            fields.append(pa.field(first, pa.float64() if number else pa.string()))
            fields += [pa.field(name, pa.float64()) for name in others]
        return pa.parquet.ParquetWriter(self.path, pa.schema(fields))


def _field(name: str, values: Sequence[Any]) -> pa.Field:
    """A kept column with the type of its first values; text if they have none."""
    try:
        found = pa.infer_type(values)
    except pa.ArrowException as error:
        raise _several_types(name, error) from error
    return pa.field(name, pa.string() if pa.types.is_null(found) else found)


def _typed(field: pa.Field, rows: Sequence[int], values: Sequence[Any]) -> pa.Array:
    try:
        if pa.types.is_integer(field.type) and pa.types.is_floating(pa.infer_type(values)):
            raise pa.ArrowInvalid("floats in a column of integers")  # pyarrow truncates them
        return pa.array(values, field.type)
    except (pa.ArrowException, OverflowError) as error:
        raise _several_types(field.name, error, f", rows {rows[0]} to {rows[-1]}") from error


def _several_types(name: str, error: Exception, where: str = "") -> UserError:
    return UserError(
        f"--keep {name}: a column of a Parquet file has values of one type{where}: "
        f"{shorten(str(error), 120)}; write a .jsonl file, or keep other columns"
    )
