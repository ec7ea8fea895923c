"""The one typed value that flows from data to methods: token tensors, and whose rows they are."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# Tokens whose computation takes as long as the fixed cost of one more pass through the encoder. Measured on a CPU
# (experiments/bench/padding.py); a GPU waits for kernels to start, not for so few tokens, so its figure is an estimate.
PASS = {"cpu": 24}
PASS_ELSEWHERE = 8192


class Segment(NamedTuple):
    """The rows of one task in a batch; they stand together.

    All processes hold the same tasks in the same step, so a segment may be empty: a draw may have fewer rows than there
    are processes. Rows past `len(labels)` are fillers: a process that would have no row at all takes one, so that all of
    them run the same steps. Fillers have no label, no id and no say in the loss.

    Attributes:
        task: The task's name.
        examples: Where the segment's examples are in the batch's tensors.
        labels: Class numbers (int64) or targets (float32), shape (rows,); -1 or NaN where a row has no label.
        ids: Row numbers in the task's split, counted from 0, int64, shape (rows,).
        weights: What each row's loss counts for, float32, shape (rows,); ones unless a scheme says otherwise.
        denominator: Rows of this task in the batches of all processes together, per process. Dividing a sum over rows by
            it, rather than by the rows at hand, makes the mean of the processes' losses the loss of the whole batch.
        length: Tokens of the segment's longest row; 0 if it has none. What stands past it in its rows is padding.
    """

    task: str
    examples: slice
    labels: Tensor
    ids: Tensor
    weights: Tensor
    denominator: float
    length: int


class Batch(NamedTuple):
    """Rows of one task or of several, padded to the longest of them.

    Attributes:
        tokens: What the backbone reads: `input_ids`, `attention_mask` and what else its tokenizer makes, shape (B, L);
            one number a row (a mask's position) has shape (B,).
        task_ids: For each row its task's place in the list of tasks, int64, shape (B,).
        segments: The tasks present, one segment each, in the same order in all processes; from the shortest to the
            longest, so that those of similar length are neighbours.
        name: Where the rows come from: `train`, or the name of an evaluation such as `mnli/matched`.
    """

    tokens: dict[str, Tensor]
    task_ids: Tensor
    segments: tuple[Segment, ...]
    name: str = "train"


def length_groups(batch: Batch) -> list[tuple[slice, int]]:
    """Runs of neighbouring segments that an encoder takes at a time: the rows, and the tokens of the longest of them.

    Tasks differ in length, so a batch of several is mostly padding as one rectangle. Segments part where that spares more
    tokens than a pass of its own costs.
    """
    cost = PASS.get(batch.task_ids.device.type, PASS_ELSEWHERE)
    runs: list[tuple[slice, int]] = []
    for segment in batch.segments:
        rows, length = segment.examples, segment.length
        if runs:
            before, longest = runs[-1]
            taller = max(longest, length)
            spared = (before.stop - before.start) * (taller - longest) + (
                rows.stop - rows.start
            ) * (taller - length)
            if spared <= cost:
                runs[-1] = slice(before.start, rows.stop), taller
                continue
        runs.append((rows, length))
    return runs


class EncodedExamples(NamedTuple):
    """Encoded rows of one task on their way into a batch, as numpy arrays.

    Attributes:
        task: The task's place in the list of tasks.
        tokens: For each field one array a row (token fields), or one array for all rows (a number a row).
        labels: Class numbers or targets of the rows that are no fillers.
        ids: Row numbers of the rows that are no fillers.
        denominator: As in `Segment`.
    """

    task: int
    tokens: Mapping[str, list[np.ndarray] | np.ndarray]
    labels: np.ndarray
    ids: np.ndarray
    denominator: float


def collate(
    parts: Sequence[EncodedExamples],
    names: Sequence[str],
    padding: Mapping[str, int],
    name: str = "train",
) -> Batch:
    """One batch of the parts' rows, in their order, padded on the right to the longest row.

    Args:
        parts: The rows of each draw, at least one part with at least one row. A task may occur once.
        names: Names of all tasks; a part's task is a place in it.
        padding: The value that pads each field; 0 where absent.
        name: As in `Batch`.
    """
    tokens: dict[str, Tensor] = {}
    for field in parts[0].tokens:
        columns = [part.tokens[field] for part in parts]
        if isinstance(columns[0], np.ndarray):
            tokens[field] = torch.from_numpy(np.concatenate(columns).astype(np.int64))
        else:
            rows = [row for column in columns for row in column]
            tokens[field] = _padded(rows, padding.get(field, 0))
    lengths = [len(row) for part in parts for row in part.tokens["input_ids"]]
    tokens["attention_mask"] = (
        torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    ).long()

    segments, start = [], 0
    sizes = [len(part.tokens["input_ids"]) for part in parts]
    for part, size in zip(parts, sizes, strict=True):
        labels = torch.from_numpy(part.labels)
        segments.append(
            Segment(
                task=names[part.task],
                examples=slice(start, start + size),
                labels=labels.float() if labels.is_floating_point() else labels,
                ids=torch.from_numpy(part.ids),
                weights=torch.ones(len(labels)),
                denominator=part.denominator,
                length=max(lengths[start : start + size], default=0),
            )
        )
        start += size
    task_ids = torch.repeat_interleave(
        torch.tensor([part.task for part in parts]), torch.tensor(sizes)
    )
    return Batch(tokens, task_ids, tuple(segments), name)


class InferencePart(NamedTuple):
    """Encoded rows that several tasks are asked of.

    Attributes:
        tasks: The tasks' places in the list of tasks.
        tokens: As in `Rows`.
    """

    tasks: Sequence[int]
    tokens: Mapping[str, list[np.ndarray] | np.ndarray]


def inference_batch(
    parts: Sequence[InferencePart], names: Sequence[str], padding: Mapping[str, int], once: bool
) -> Batch:
    """A batch without labels of rows that several tasks are asked of.

    Args:
        parts: The rows; a task may occur in one part.
        names: Names of all tasks.
        padding: The value that pads each field; 0 where absent.
        once: Whether a row stands in the batch once and the segments of its tasks lie over one another, which serves
            methods whose encoder knows no tasks; else it stands there once for each of its tasks.
    """
    parts = sorted(parts, key=lambda part: max(map(len, part.tokens["input_ids"])))
    rows = [
        EncodedExamples(task, part.tokens, none, none, len(none))
        for part in parts
        for none in [np.full(len(part.tokens["input_ids"]), -1)]
        for task in (part.tasks[:1] if once else part.tasks)
    ]
    batch = collate(rows, names, padding, "asked")
    if not once:
        return batch
    segments = [
        segment._replace(task=names[task])
        for part, segment in zip(parts, batch.segments, strict=True)
        for task in part.tasks
    ]
    # No task's number: a module that looks a row's task up after all fails, rather than to take one of them for the other.
    return batch._replace(
        segments=tuple(segments), task_ids=torch.full_like(batch.task_ids, len(names))
    )


def select_examples(batch: Batch, rows: Tensor) -> Batch:
    """Some rows of a batch, as a batch of this process's own: its segments' denominators are their rows.

    Args:
        batch: The batch.
        rows: Places of the rows to keep, in any order, at least one, shape (kept,).
    """
    rows = rows.sort().values
    # One wait for the device gives everything that is needed as Python numbers.
    places, lengths = torch.stack([rows, batch.tokens["attention_mask"][rows].sum(1)]).tolist()
    tokens = {
        name: value[rows, : max(lengths)] if value.ndim > 1 else value[rows]
        for name, value in batch.tokens.items()
    }
    segments, start = [], 0
    for segment in batch.segments:
        kept = [
            index
            for index, place in enumerate(places)
            if segment.examples.start <= place < segment.examples.stop
        ]
        if not kept:
            continue
        own = rows[kept[0] : kept[-1] + 1] - segment.examples.start
        own = own[
            : sum(
                place - segment.examples.start < len(segment.labels)
                for place in places[kept[0] : kept[-1] + 1]
            )
        ]
        segments.append(
            Segment(
                task=segment.task,
                examples=slice(start, start + len(kept)),
                labels=segment.labels[own],
                ids=segment.ids[own],
                weights=segment.weights[own],
                denominator=max(1, len(own)),
                length=max(lengths[kept[0] : kept[-1] + 1]),
            )
        )
        start += len(kept)
    return Batch(tokens, batch.task_ids[rows], tuple(segments), batch.name)


def _padded(rows: list[np.ndarray], value: int) -> Tensor:
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(padded)
