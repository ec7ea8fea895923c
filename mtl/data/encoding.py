"""Rows to token ids, once: tokenised in batches, written to an Arrow file, read back through the memory map."""

import hashlib
import json
import math
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from mtl.batch import EncodedExamples
from mtl.data.augmentation import Augmentation
from mtl.data.checks import Example, checked_examples
from mtl.data.order import Draw, Ints
from mtl.data.sources import Split, open_split
from mtl.tasks import Task
from mtl.tasks.prompts import filled, pieces

# Raised when the same rows would be encoded otherwise than before, so that old files are not read.
FORMAT = 2
# Fields of a task that its encoded rows do not depend on; the encoding's own key has the prompt.
NO_MATTER = ("prompt", "metrics", "splits", "version", "licence")
# Rows in a record batch of the cache, all but the last: row i stands in batch i // CHUNK. Bounds the memory in writing.
CHUNK = 8192


class Encoding(ABC):
    """How a row becomes numbers. Two encodings that differ must have different `key`s."""

    @abstractmethod
    def key(self, task: Task) -> str:
        """Names everything that the numbers depend on beside the tokenizer, the rows' texts and the length."""

    def longest(self, task: Task, max_length: int) -> int:
        """The longest row in tokens, of a task."""
        return max_length

    @abstractmethod
    def __call__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        task: Task,
        rows: Sequence[Example],
        max_length: int,
    ) -> tuple[dict[str, list[Any]], int]:
        """The fields of the rows (a list of ids, or one number, for each row), and how many rows were cut."""


class Plain(Encoding):
    """What the tokenizer makes of a text or a pair, with its special tokens; the longer text of a pair is cut first."""

    def key(self, task: Task) -> str:
        """Nothing beside the tokenizer."""
        return "plain"

    def __call__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        task: Task,
        rows: Sequence[Example],
        max_length: int,
    ) -> tuple[dict[str, list[Any]], int]:
        """Token ids, and segment ids where the backbone has them."""
        texts = [list(column) for column in zip(*(row.texts for row in rows), strict=True)]
        encoded = tokenizer(
            *texts, truncation="longest_first", max_length=max_length, return_attention_mask=False
        )
        cut = sum(bool(row.overflowing) for row in encoded.encodings or ())
        return {name: cast(list[Any], ids) for name, ids in encoded.items()}, cut


class Prompted(Encoding):
    """Each row as its task's prompt: a text with a mask, and the mask's place.

    Source: Gao et al. 2021 (LM-BFF), its release; specification A.4.
    """

    def key(self, task: Task) -> str:
        """The prompt, and which text is which of its columns."""
        return json.dumps(["prompted", task.texts, asdict(task.prompt) if task.prompt else None])

    def longest(self, task: Task, max_length: int) -> int:
        """The prompt's own limit, where it has one."""
        return (task.prompt and task.prompt.max_length) or max_length

    def __call__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        task: Task,
        rows: Sequence[Example],
        max_length: int,
    ) -> tuple[dict[str, list[Any]], int]:
        """Token ids, segment ids where the backbone has them, and `mask_position`."""
        parts, length = pieces(task), self.longest(task, max_length)
        found = [filled(task, parts, row.texts, tokenizer, length) for row in rows]
        ids, segments, masks, cut = (list(column) for column in zip(*found, strict=True))
        fields: dict[str, list[Any]] = {"input_ids": ids, "mask_position": masks}
        if "token_type_ids" in tokenizer.model_input_names:
            fields["token_type_ids"] = segments
        return fields, sum(cut)


class Report(NamedTuple):
    """What became of a split's rows.

    Attributes:
        where: The file or data set.
        fingerprint: Changes whenever the rows do.
        rows: Rows that can be used.
        truncated: Rows of these that were cut to the maximum length.
        tokens: Tokens of all rows together.
        dropped: Rows left out, by fault.
    """

    where: str
    fingerprint: str
    rows: int
    truncated: int
    tokens: int
    dropped: dict[str, int]


class EncodedSplit:
    """The encoded rows of one split in a memory-mapped file: a row costs a slice, and no resident memory.

    Args:
        path: A file that `encode` wrote.
        chosen: Places of the rows to show, in this order; all where absent.
    """

    def __init__(self, path: Path, chosen: Ints | None = None) -> None:
        self.path, self.chosen = path, chosen
        self._file = pa.memory_map(str(path))
        reader = pa.ipc.open_file(self._file)
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        last = reader.get_batch_with_custom_metadata(len(batches) - 1)
        self.report = Report(*json.loads(last.custom_metadata[b"report"]))
        self.labels, self.numbers, self.lengths = (
            np.concatenate([batch.column(name).to_numpy() for batch in batches])[
                slice(None) if chosen is None else chosen
            ]
            for name in ("label", "number", "length")
        )
        self._fields: dict[str, list[Any]] = {
            name: [_view(batch.column(name)) for batch in batches]
            for name in reader.schema.names
            if name not in ("label", "number", "length")
        }

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[type[Self], tuple[Path, Ints | None]]:
        return type(self), (
            self.path,
            self.chosen,
        )  # another process maps the file anew; rows are not copied

    def take(self, draw: Draw, denominator: float, fillers: int = 0) -> EncodedExamples:
        """The drawn rows for a batch, with the denominator of their loss; of these the last `fillers` without label."""
        tokens: dict[str, list[npt.NDArray[Any]] | npt.NDArray[Any]] = {}
        places = (draw.examples if self.chosen is None else self.chosen[draw.examples]).tolist()
        for name, chunks in self._fields.items():
            values = [_cell(chunks[place // CHUNK], place % CHUNK) for place in places]
            tokens[name] = values if isinstance(chunks[0], tuple) else np.asarray(values)
        real = draw.examples[: len(draw.examples) - fillers]
        return EncodedExamples(
            draw.task, tokens, self.labels[real], self.numbers[real], denominator
        )


def _view(column: Any) -> Any:
    """A column's numbers without a copy: ends and values of a list column, or the values of a plain one."""
    if isinstance(column, pa.ListArray):
        return column.offsets.to_numpy(), column.values.to_numpy()
    return column.to_numpy()


def _cell(chunk: Any, place: int) -> Any:
    if isinstance(chunk, tuple):
        ends, values = chunk
        return values[ends[place] : ends[place + 1]]
    return chunk[place]


def encode(
    task: Task,
    split: str,
    *,
    tokenizer: PreTrainedTokenizerFast,
    encoding: Encoding,
    max_length: int,
    cache: Path,
    root: Path | None = None,
    labelled: bool = True,
    augmentation: Augmentation | None = None,
    seed: int = 0,
) -> Path:
    """Tokenises a task's split, unless the cache has it already.

    Args:
        task: The task.
        split: Name of the split in the task's source.
        tokenizer: The backbone's tokenizer.
        encoding: How a row becomes numbers.
        max_length: Longest row in tokens; longer ones are cut.
        cache: Folder of the encoded files. A file's name covers tokenizer, task, rows and length.
        root: Folder whose sub-folders hold the tasks' files, in place of the tasks' sources.
        labelled: Whether every row needs a label.
        augmentation: What is added to the rows.
        seed: Decides what is added.

    Returns:
        The file, for `Table`.

    Raises:
        UserError: If rows cannot be read or used.
    """
    rows = open_split(task, split, root)
    meaning = {name: value for name, value in asdict(task).items() if name not in NO_MATTER}
    key = [
        FORMAT,
        _settings(tokenizer),
        encoding.key(task),
        max_length,
        meaning,
        rows.fingerprint,
        labelled,
    ]
    key += [[asdict(augmentation), seed]] if augmentation else []
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
    path = cache / f"{task.name}-{split}-{name}.arrow"
    if path.exists():
        return path

    cache.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(
        f".{os.getpid()}.part"
    )  # renamed when whole, so that a cut-off file is never read
    dropped: Counter[str] = Counter()
    try:
        usable = checked_examples(task, rows, dropped, labelled)
        if augmentation:
            usable = augmentation.added(usable, seed)
        encoded = partial(encoding, tokenizer, task, max_length=max_length)
        _write(part, usable, rows, dropped, encoded, task.regression)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _settings(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """All that the tokenizer is made of, but how its last call cut and padded, which it keeps as if it were a setting."""
    settings: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return settings | {"truncation": None, "padding": None}


def _write(
    path: Path,
    rows: Iterator[Example],
    split: Split,
    dropped: Counter[str],
    encoded: Callable[[Sequence[Example]], tuple[dict[str, list[Any]], int]],
    regression: bool,
) -> None:
    """Writes chunk after chunk; the report travels with the last, when all counts are known."""
    chunks = iter(lambda: list(islice(rows, CHUNK)), [])
    truncated = count = tokens = 0
    chunk, writer = next(chunks), None
    with pa.OSFile(str(path), "wb") as sink:
        while chunk:
            fields, cut = encoded(chunk)
            lengths = [len(ids) for ids in fields["input_ids"]]
            truncated, count, tokens = truncated + cut, count + len(chunk), tokens + sum(lengths)
            none = math.nan if regression else -1
            columns = {
                name: pa.array(values, _type(name, values)) for name, values in fields.items()
            } | {
                "label": pa.array(
                    [none if row.label is None else row.label for row in chunk],
                    "f8" if regression else "i8",
                ),
                "number": pa.array([row.number for row in chunk], pa.int64()),
                "length": pa.array(lengths, pa.int32()),
            }
            batch = pa.record_batch(columns)
            writer = writer or pa.ipc.new_file(sink, batch.schema)
            chunk = next(chunks, [])
            report = Report(split.where, split.fingerprint, count, truncated, tokens, dict(dropped))
            writer.write_batch(batch, None if chunk else {"report": json.dumps(report)})
        assert writer is not None  # `checked_examples` refuses a split without rows
        writer.close()


def _type(name: str, values: list[Any]) -> Any:
    if not isinstance(values[0], list):
        return pa.int32()
    return pa.list_(pa.int32() if name == "input_ids" else pa.int8())
