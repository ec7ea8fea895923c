"""Writes the Arrow files of encoded splits, in chunks."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mtl.data.checks import Example
from mtl.data.choice_encoding import LENGTHS
from mtl.data.sources import Split
from mtl.data.split_examples import text_hash
from mtl.tasks import TaskKind, TokenLabels

# Examples per record batch of the file. Bounds the memory that writing needs.
CHUNK = 8192
# Fields whose numbers do not fit into 8 bits.
WIDER_FIELDS = {"input_ids": pa.int32(), "words": pa.int16(), LENGTHS: pa.int16()}


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
    truncated = count = tokens = 0
    cut_labels = np.zeros(len(kinds), np.int64)
    chunk, writer = next(chunks), None
    with pa.OSFile(str(path), "wb") as sink:
        while chunk:
            fields, cut = encode(chunk)
            columns = _columns(chunk, kinds)
            cut_labels += [_word_count(*column) for column in columns]
            if "example" in fields:
                chunk = [chunk[index] for index in fields.pop("example")]
                columns = _columns(chunk, kinds)
            batch = _record_batch(chunk, fields, columns)
            cut_labels -= [_kept_words(*column, fields) for column in columns]
            truncated, count = truncated + cut, count + len(chunk)
            tokens += sum(map(len, fields["input_ids"]))
            writer = writer or pa.ipc.new_file(sink, batch.schema)
            chunk = next(chunks, [])
            values = [split.where, split.fingerprint, count, truncated, tokens, dict(dropped)]
            report = json.dumps([values, cut_labels.tolist()])
            writer.write_batch(batch, None if chunk else {"report": report})
        assert writer is not None  # `checked_examples` refuses a split without examples
        writer.close()


def _columns(
    chunk: Sequence[Example], kinds: Sequence[TaskKind]
) -> list[tuple[TaskKind, Sequence[Any]]]:
    """The labels of a chunk for each task."""
    labels = [example.label if len(kinds) > 1 else [example.label] for example in chunk]
    return list(zip(kinds, zip(*labels, strict=True), strict=True))


def _record_batch(
    chunk: Sequence[Example],
    fields: dict[str, list[Any]],
    columns: Sequence[tuple[TaskKind, Sequence[Any]]],
) -> Any:
    return pa.record_batch(
        {name: pa.array(values, _arrow_type(name, values)) for name, values in fields.items()}
        | {
            label_name(index): _label_column(kind.label_array(_labels(column, fields, kind)))
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


def _word_count(kind: TaskKind, labels: Sequence[Any]) -> int:
    """The number of words with a label."""
    return sum(len(each or ()) for each in labels) if isinstance(kind, TokenLabels) else 0


def _kept_words(kind: TaskKind, labels: Sequence[Any], fields: dict[str, list[Any]]) -> int:
    """The number of words whose label is kept."""
    if not isinstance(kind, TokenLabels):
        return 0
    pairs = zip(labels, fields["words"], strict=True)
    return sum(number > 0 for label, words in pairs if label for number in words)


def label_name(column: int) -> str:
    """Name of a label column of the file."""
    return f"label.{column}" if column else "label"


def _label_column(labels: npt.NDArray[Any]) -> Any:
    """A column of labels: a number per example, or a list of as many for each."""
    values = pa.array(labels.ravel())
    if labels.ndim == 1:
        return values
    offsets = np.arange(len(labels) + 1, dtype=np.int32) * labels.shape[1]
    return pa.ListArray.from_arrays(offsets, values)


def _arrow_type(name: str, values: list[Any]) -> Any:
    if not isinstance(values[0], list):
        return pa.int32()
    return pa.list_(WIDER_FIELDS.get(name, pa.int8()))
