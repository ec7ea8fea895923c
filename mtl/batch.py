"""`Batch`: the typed value that passes from data to methods. It knows the task of every example."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# The cost of one more pass through the encoder, in tokens whose computation takes as long. Measured
# on a CPU (experiments/bench/padding.py); the value for other devices is an estimate: a GPU is
# limited by kernel launches until a pass has thousands of tokens.
ENCODER_PASS_COST = {"cpu": 24}
DEFAULT_ENCODER_PASS_COST = 8192


TasksPerBatch = Literal["one", "some", "all"]
"""How many of the tasks a batch contains, from the fewest to all."""


class Segment(NamedTuple):
    """The examples of one task in a batch; they are contiguous.

    All processes have the same tasks in the same step, so a segment may be empty: a draw may have
    fewer examples than there are processes. Examples after the first `len(labels)` are fillers: a
    process that would have no example at all gets one, so that all processes run the same steps.
    Fillers have no label and no id and do not contribute to the loss.

    Attributes:
        task: The task's name.
        examples: Where the segment's examples are in the batch's tensors.
        labels: Class indices (int64) or targets (float32), shape (examples, ...); -1 or NaN for
            a missing label.
        ids: Index of each example in the task's split, counted from 0, int64, shape (examples,).
        weights: Weight of each example's loss, float32, shape (examples,); ones unless a sampling
            scheme sets others.
        denominator: Number of loss terms (`loss_terms`) of this task in the batches of all
            processes together, divided by the number of processes. With a sum over examples
            divided by it, rather than by the number of local examples, the mean over processes is
            the loss of the complete batch.
        length: Number of tokens of the segment's longest example; 0 if it is empty. Everything
            after it is padding.
    """

    task: str
    examples: slice
    labels: Tensor
    ids: Tensor
    weights: Tensor
    denominator: float
    length: int


class Batch(NamedTuple):
    """Examples of one task or of several, padded to the longest of them.

    Attributes:
        tokens: Inputs of the backbone: `input_ids`, `attention_mask` and the other outputs of its
            tokenizer, shape (B, L). Fields with one number per example, such as the mask's
            position, have shape (B,).
        task_ids: Index of each example's task in the list of tasks, int64, shape (B,).
        segments: One segment per task in the batch, in the same order in all processes; from the
            shortest to the longest, so that segments of similar length are neighbours.
        name: Where the examples come from: `train`, or the name of an evaluation such as
            `mnli/matched`.
    """

    tokens: dict[str, Tensor]
    task_ids: Tensor
    segments: tuple[Segment, ...]
    name: str = "train"

    @property
    def shares_examples(self) -> bool:
        """Whether an example belongs to several tasks, whose segments overlap."""
        sizes = (segment.examples.stop - segment.examples.start for segment in self.segments)
        return sum(sizes) > len(self.task_ids)


def length_groups(batch: Batch) -> list[tuple[slice, int]]:
    """Groups neighbouring segments for the encoder: one pass per group.

    Tasks differ in length, so most of a multi-task batch would be padding if it were encoded as one
    rectangle. Two segments are separated if that saves more tokens than another pass costs.

    Returns:
        For each group its examples and the number of tokens of the longest of them.
    """
    cost = ENCODER_PASS_COST.get(batch.task_ids.device.type, DEFAULT_ENCODER_PASS_COST)
    groups: list[tuple[slice, int]] = []
    for segment in batch.segments:
        examples, length = segment.examples, segment.length
        if groups:
            previous, previous_length = groups[-1]
            joint_length = max(previous_length, length)
            saved = (previous.stop - previous.start) * (joint_length - previous_length)
            saved += (examples.stop - examples.start) * (joint_length - length)
            if saved <= cost:
                groups[-1] = slice(previous.start, examples.stop), joint_length
                continue
        groups.append((examples, length))
    return groups


def loss_terms(labels: Any) -> Any:
    """The number of terms that each example adds to its task's loss, shape (examples,).

    A term is an example that has a label; if a label is a list of integers (one for each token),
    each of them that is not missing is a term.

    Args:
        labels: A label array or tensor (`mtl.tasks.TaskKind`), shape (examples, ...).
    """
    present = labels == labels if _is_float(labels) else labels >= 0
    if present.ndim == 1:
        return present
    return present.all(-1) if _is_float(labels) else present.sum(-1)


def fitted_labels(labels: Tensor, length: int) -> Tensor:
    """Labels of exactly `length` tokens; what is removed or added has no label (-1)."""
    return F.pad(labels[:, :length], (0, max(0, length - labels.shape[1])), value=-1)


def _is_float(labels: np.ndarray | Tensor) -> bool:
    return labels.is_floating_point() if isinstance(labels, Tensor) else labels.dtype.kind == "f"


class EncodedExamples(NamedTuple):
    """Encoded examples of one task, as numpy arrays: the input of `collate`.

    Attributes:
        task: Index of the task in the list of tasks.
        tokens: For each field one array per example (token fields), or one array for all examples
            (fields with one number per example).
        labels: Class indices or targets of the examples that are not fillers.
        ids: Ids of the examples that are not fillers.
        denominator: As in `Segment`.
        others: Labels of other tasks for the same examples: a label group.
    """

    task: int
    tokens: Mapping[str, list[np.ndarray] | np.ndarray]
    labels: np.ndarray
    ids: np.ndarray
    denominator: float
    others: tuple["TaskLabels", ...] = ()


class TaskLabels(NamedTuple):
    """The labels that another task has for the same examples.

    Attributes:
        task: Index of the task in the list of tasks.
        labels: As in `EncodedExamples`; some may be missing.
        denominator: As in `Segment`.
    """

    task: int
    labels: np.ndarray
    denominator: float


def collate(
    parts: Sequence[EncodedExamples],
    names: Sequence[str],
    padding: Mapping[str, int],
    name: str = "train",
) -> Batch:
    """Makes one batch of all examples, in their order, padded on the right to the longest.

    Args:
        parts: The examples of each draw: at least one example, and each task at most once.
        names: Names of all tasks.
        padding: The value that pads each field; default: 0.
        name: As in `Batch`.
    """
    tokens: dict[str, Tensor] = {}
    for field in dict.fromkeys(field for part in parts for field in part.tokens):
        columns = [_field(part, field) for part in parts]
        if isinstance(columns[0], np.ndarray):
            tokens[field] = torch.from_numpy(np.concatenate(columns).astype(np.int64))
        else:
            sequences = [sequence for column in columns for sequence in column]
            tokens[field] = _padded(sequences, padding.get(field, 0))
    lengths = [len(ids) for part in parts for ids in part.tokens["input_ids"]]
    positions = torch.arange(max(lengths))[None]
    tokens["attention_mask"] = (positions < torch.tensor(lengths)[:, None]).long()

    segments, start = [], 0
    for part in parts:
        stop = start + len(part.tokens["input_ids"])
        for each in (part, *(part._replace(**other._asdict()) for other in part.others)):
            segment = _segment(each, names, slice(start, stop), lengths[start:stop])
            if part.others:
                segment = segment._replace(weights=(loss_terms(segment.labels) > 0).float())
            segments.append(segment)
        start = stop
    # The index of no task stands for several tasks: a module that looks up the task of such an
    # example fails instead of computing with one of them.
    task_ids = torch.repeat_interleave(
        torch.tensor([len(names) if part.others else part.task for part in parts]),
        torch.tensor([len(part.tokens["input_ids"]) for part in parts]),
    )
    return Batch(tokens, task_ids, tuple(segments), name)


def _segment(
    part: EncodedExamples, names: Sequence[str], examples: slice, lengths: Sequence[int]
) -> Segment:
    labels = torch.from_numpy(part.labels)
    return Segment(
        task=names[part.task],
        examples=examples,
        labels=labels.float() if labels.is_floating_point() else labels,
        ids=torch.from_numpy(part.ids),
        weights=torch.ones(len(labels)),
        denominator=part.denominator,
        length=max(lengths, default=0),
    )


def _field(part: EncodedExamples, field: str) -> list[np.ndarray] | np.ndarray:
    """A field of examples; zeros if other tasks of the batch have it, such as words' numbers."""
    if field in part.tokens:
        return part.tokens[field]
    return [np.zeros(len(ids), np.int64) for ids in part.tokens["input_ids"]]


def _padded(sequences: Sequence[np.ndarray], value: int) -> Tensor:
    padded = np.full((len(sequences), max(map(len, sequences))), value, dtype=np.int64)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return torch.from_numpy(padded)


class InferencePart(NamedTuple):
    """Encoded examples that several tasks predict.

    Attributes:
        tasks: Indices of the tasks in the list of tasks.
        tokens: As in `EncodedExamples`.
    """

    tasks: Sequence[int]
    tokens: Mapping[str, list[np.ndarray] | np.ndarray]


def inference_batch(
    parts: Sequence[InferencePart], names: Sequence[str], padding: Mapping[str, int], once: bool
) -> Batch:
    """Makes a batch without labels of examples that several tasks predict.

    Args:
        parts: The examples. A task may occur in one part only.
        names: Names of all tasks.
        padding: The value that pads each field; default: 0.
        once: Whether an example is in the batch once, and the segments of its tasks overlap. This
            serves methods whose encoder does not depend on the task. Otherwise the example is in
            the batch once for each of its tasks.
    """
    parts = sorted(parts, key=lambda part: max(map(len, part.tokens["input_ids"])))
    copies = []
    for part in parts:
        missing = np.full(len(part.tokens["input_ids"]), -1)
        copies += [
            EncodedExamples(task, part.tokens, missing, missing, len(missing))
            for task in (part.tasks[:1] if once else part.tasks)
        ]
    batch = collate(copies, names, padding, "inference")
    if not once:
        return batch
    segments = [
        segment._replace(task=names[task])
        for part, segment in zip(parts, batch.segments, strict=True)
        for task in part.tasks
    ]
    # The examples belong to several tasks. An index that no task has makes a module that looks up
    # the task of an example fail instead of computing with one of them.
    task_ids = torch.full_like(batch.task_ids, len(names))
    return batch._replace(segments=tuple(segments), task_ids=task_ids)


def select_examples(batch: Batch, indices: Tensor) -> Batch:
    """Selects examples of a batch that is local to this process.

    The denominator of each segment of the result is its number of loss terms, at least 1.

    Args:
        batch: The batch.
        indices: Indices of the examples in the batch, at least one, in any order, (selected,).
    """
    indices = indices.sort().values
    # A single synchronization with the device for what is needed as Python numbers, except for
    # tasks whose labels are lists or may be missing.
    token_counts = batch.tokens["attention_mask"][indices].sum(1)
    positions, lengths = torch.stack([indices, token_counts]).tolist()
    tokens = {
        name: value[indices, : max(lengths)] if value.ndim > 1 else value[indices]
        for name, value in batch.tokens.items()
    }
    segments = []
    for segment in batch.segments:
        first = bisect_left(positions, segment.examples.start)
        last = bisect_left(positions, segment.examples.stop)
        if first == last:
            continue
        # Fillers are the last examples of a segment; they have no label.
        end = bisect_left(positions, segment.examples.start + len(segment.labels), first, last)
        labelled = indices[first:end] - segment.examples.start
        labels = segment.labels[labelled]
        every_one = labels.ndim == 1 and not batch.shares_examples
        terms = len(labels) if every_one else int(loss_terms(labels).sum())
        segments.append(
            Segment(
                task=segment.task,
                examples=slice(first, last),
                labels=labels,
                ids=segment.ids[labelled],
                weights=segment.weights[labelled],
                denominator=max(1, terms),
                length=max(lengths[first:last]),
            )
        )
    return Batch(tokens, batch.task_ids[indices], tuple(segments), batch.name)
