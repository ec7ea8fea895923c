"""Encoded splits: Arrow files, written in chunks and read through a memory map."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mtl.batch import EncodedExamples
from mtl.data.checks import Example
from mtl.data.choice_encoding import LENGTHS, split_choices
from mtl.data.order import Draw
from mtl.data.permutation import Ints
from mtl.data.sources import Split
from mtl.data.split_examples import Report, SplitExamples, text_hash
from mtl.tasks import TaskKind, TokenLabels

# Examples per record batch of the file. Bounds the memory that writing needs.
CHUNK = 8192
# Columns that are read when a split is opened; the others hold token ids.
# Fields whose numbers do not fit into 8 bits.
WIDER_FIELDS = {"input_ids": pa.int32(), "words": pa.int16(), LENGTHS: pa.int16()}
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
        path: A file that `encode` wrote.
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
        self.report = Report(*json.loads(last.custom_metadata[b"report"]))
        self.labels, self.numbers, self.texts, self.lengths = (
            _rows([_column(batch.column(name)) for batch in batches])[
                slice(None) if chosen is None else chosen
            ]
            for name in (_label_name(column), *EXAMPLE_COLUMNS)
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


def write_encoded_split(
    path: Path,
    examples: Iterator[Example],
    split: Split,
    dropped: Counter[str],
    encode: Callable[[Sequence[Example]], tuple[dict[str, list[Any]], int]],
    kinds: Sequence[TaskKind],
) -> None:
    """Writes the file that `EncodedSplit` reads.

    Args:
        path: The file.
        examples: At least one example.
        split: Where they come from.
        dropped: Number of dropped examples by fault; complete when the iterator is exhausted.
        encode: Returns the fields of a chunk of examples and the number of truncated ones.
        kinds: What the task predicts, or each task of a label group; the label of an example is
            then a list with one label for each.
    """
    # The report is stored with the last record batch, because the counts are known only then.
    chunks = iter(lambda: list(islice(examples, CHUNK)), [])
    truncated = count = tokens = cut_labels = 0
    chunk, writer = next(chunks), None
    with pa.OSFile(str(path), "wb") as sink:
        while chunk:
            fields, cut = encode(chunk)
            labels = sum(len(each.label or ()) for each in chunk if "words" in fields)
            if "example" in fields:
                chunk = [chunk[index] for index in fields.pop("example")]
            batch = _record_batch(chunk, fields, kinds)
            cut_labels += labels - _first_tokens(chunk, fields)
            truncated, count = truncated + cut, count + len(chunk)
            tokens += sum(map(len, fields["input_ids"]))
            writer = writer or pa.ipc.new_file(sink, batch.schema)
            chunk = next(chunks, [])
            report = Report(
                split.where,
                split.fingerprint,
                count,
                truncated,
                tokens,
                dict(dropped),
                cut_labels,
            )
            writer.write_batch(batch, None if chunk else {"report": json.dumps(report)})
        assert writer is not None  # `checked_examples` refuses a split without examples
        writer.close()


def _record_batch(
    chunk: Sequence[Example], fields: dict[str, list[Any]], kinds: Sequence[TaskKind]
) -> Any:
    labels = [example.label if len(kinds) > 1 else [example.label] for example in chunk]
    columns = zip(kinds, zip(*labels, strict=True), strict=True)
    return pa.record_batch(
        {name: pa.array(values, _arrow_type(name, values)) for name, values in fields.items()}
        | {
            _label_name(index): _label_column(kind.label_array(_labels(column, fields, kind)))
            for index, (kind, column) in enumerate(columns)
        }
        | {
            "number": pa.array([example.number for example in chunk], pa.int64()),
            "text": pa.array([text_hash(example.texts) for example in chunk], pa.int64()),
            "length": pa.array(_lengths(fields), pa.int32()),
        }
    )


def _lengths(fields: dict[str, list[Any]]) -> list[int]:
    """The number of tokens of each example; of several sequences, that of the longest."""
    if LENGTHS in fields:
        return [max(lengths) for lengths in fields[LENGTHS]]
    return [len(ids) for ids in fields["input_ids"]]


def _labels(labels: Sequence[Any], fields: dict[str, list[Any]], kind: TaskKind) -> Sequence[Any]:
    """The labels of a chunk; those of words become labels of tokens."""
    if not isinstance(kind, TokenLabels):
        return labels
    pairs = zip(labels, fields["words"], strict=True)
    return [label and kind.token_labels(label, words) for label, words in pairs]


def _first_tokens(chunk: Sequence[Example], fields: dict[str, list[Any]]) -> int:
    """The number of words whose label is kept."""
    words = fields.get("words", [[]] * len(chunk))
    return sum(
        number > 0
        for example, numbers in zip(chunk, words, strict=True)
        for number in numbers
        if example.label
    )


def _label_name(column: int) -> str:
    return f"label.{column}" if column else "label"


def _label_column(labels: npt.NDArray[Any]) -> Any:
    """A column of labels: a number per example, or a list of as many for each."""
    values = pa.array(labels.ravel())
    if labels.ndim == 1:
        return values
    offsets = np.arange(len(labels) + 1, dtype=np.int32) * labels.shape[1]
    return pa.ListArray.from_arrays(offsets, values)


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


def _arrow_type(name: str, values: list[Any]) -> Any:
    if not isinstance(values[0], list):
        return pa.int32()
    return pa.list_(WIDER_FIELDS.get(name, pa.int8()))
