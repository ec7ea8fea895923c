"""Reads encoded splits: Arrow files, through a memory map."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mtl.batch import EncodedExamples
from mtl.data.choice_encoding import split_choices
from mtl.data.encoded_writing import label_name
from mtl.data.order import Draw
from mtl.data.permutation import Ints
from mtl.data.split_examples import Report, SplitExamples

# Columns that are read when a split is opened; the others hold token ids.
EXAMPLE_COLUMNS = ("number", "text", "length")


# A record batch, and the index of an example in it.
Place = tuple[int, int]


class _TokenField:
    """A field with a list of numbers per example, such as token ids."""

    def __init__(self, columns: Sequence[Any]) -> None:
        # Views of the memory map: where each list ends, and the values of all lists.
        self._chunks = [(column.offsets.to_numpy(), column.values.to_numpy()) for column in columns]

    def take(self, places: Sequence[Place]) -> list[npt.NDArray[Any]]:
        """One array per example."""
        return [self._tokens(*place) for place in places]

    def _tokens(self, chunk: int, index: int) -> npt.NDArray[Any]:
        offsets, values = self._chunks[chunk]
        tokens: npt.NDArray[Any] = values[offsets[index] : offsets[index + 1]]
        return tokens


class _NumberField:
    """A field with one number per example, such as the position of the mask."""

    def __init__(self, columns: Sequence[Any]) -> None:
        self._chunks = [column.to_numpy() for column in columns]

    def take(self, places: Sequence[Place]) -> npt.NDArray[Any]:
        """One array for all examples."""
        return np.asarray([self._chunks[chunk][index] for chunk, index in places])


class EncodedSplit(SplitExamples):
    """The encoded examples of one split.

    The file is memory-mapped: reading an example costs a slice, and no resident memory.

    Args:
        path: A file that `write_encoded_split` wrote.
        chosen: Indices of the examples to use, in this order; default: all.
        column: Which of the label columns to use, if the file is that of a label group.

    Attributes:
        lengths: Number of tokens of each example, shape (examples,).
    """

    def __init__(self, path: Path, chosen: Ints | None = None, column: int = 0) -> None:
        self.path, self.chosen, self.column = path, chosen, column
        self._file = pa.memory_map(str(path))
        reader = pa.ipc.open_file(self._file)
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
        self._ends = np.cumsum([batch.num_rows for batch in batches])
        last = reader.get_batch_with_custom_metadata(len(batches) - 1)
        values, cut_labels = json.loads(last.custom_metadata[b"report"])
        self.report = Report(*values)._replace(cut_labels=cut_labels[column])
        self.labels, self.numbers, self.texts, self.lengths = (
            _rows([_column(batch.column(name)) for batch in batches])[
                slice(None) if chosen is None else chosen
            ]
            for name in (label_name(column), *EXAMPLE_COLUMNS)
        )
        self._file_numbers = np.concatenate(
            [batch.column("number").to_numpy() for batch in batches]
        )
        self._fields = {
            field.name: (_TokenField if pa.types.is_list(field.type) else _NumberField)(
                [batch.column(field.name) for batch in batches]
            )
            for field in reader.schema
            if field.name not in EXAMPLE_COLUMNS and field.name.partition(".")[0] != "label"
        }

    def __reduce__(self) -> tuple[type[Self], tuple[Path, Ints | None, int]]:
        # Another process maps the file again; the examples are not copied.
        return type(self), (self.path, self.chosen, self.column)

    @property
    def rows(self) -> Ints:
        """Index of each example in the file, shape (examples,)."""
        return np.arange(len(self)) if self.chosen is None else self.chosen

    @property
    def file_numbers(self) -> Ints:
        """`numbers` of all examples of the file."""
        return self._file_numbers

    def subset(self, chosen: Ints) -> Self:
        """The examples with these indices, in this order."""
        return type(self)(self.path, self.rows[chosen], self.column)

    def take(self, draw: Draw, denominator: float, fillers: int = 0) -> EncodedExamples:
        """The drawn examples for a batch.

        Args:
            draw: The task and the indices of its examples.
            denominator: The denominator of their loss, as in `Segment`.
            fillers: How many of the last examples are fillers, which have no label.
        """
        chosen = draw.examples if self.chosen is None else self.chosen[draw.examples]
        chunks = np.searchsorted(self._ends, chosen, side="right")
        starts = np.concatenate([[0], self._ends])[chunks]
        places = list(zip(chunks.tolist(), (chosen - starts).tolist(), strict=True))
        tokens = {name: field.take(places) for name, field in self._fields.items()}
        real = draw.examples[: len(draw.examples) - fillers]
        tokens = split_choices(tokens)
        return EncodedExamples(
            draw.task, tokens, self.labels[real], self.numbers[real], denominator
        )


def _column(column: Any) -> npt.NDArray[Any]:
    """A column of numbers, shape (examples,), or of lists, shape (examples, width)."""
    if not pa.types.is_list(column.type):
        values: npt.NDArray[Any] = column.to_numpy()
        return values
    flat: npt.NDArray[Any] = column.flatten().to_numpy()
    return flat.reshape(len(column), -1)


def _rows(columns: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The rows of all columns; shorter lists are filled with missing labels."""
    width = max((column.shape[1] for column in columns if column.ndim > 1), default=0)
    return np.concatenate(
        [
            np.pad(
                column,
                ((0, 0), (0, width - column.shape[1])),
                constant_values=-1 if column.dtype.kind == "i" else np.nan,
            )
            if column.ndim > 1
            else column
            for column in columns
        ]
    )
