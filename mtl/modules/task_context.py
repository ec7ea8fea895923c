"""Whose rows are passing: what a part deep inside an encoder cannot be told through its arguments."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple

from torch import Tensor

from mtl.batch import Segment


class Span(NamedTuple):
    """Neighbouring rows of one task.

    Attributes:
        task: The task's name.
        start: The first row.
        stop: The row after the last.
    """

    task: str
    start: int
    stop: int


_passing: ContextVar[tuple[Span, ...]] = ContextVar("passing", default=())


@contextmanager
def task_context(segments: Sequence[Segment], rows: slice) -> Iterator[None]:
    """Says whose rows a pass through the model holds.

    Args:
        segments: The batch's segments.
        rows: The rows of the batch that the pass holds.
    """
    current_spans = []
    for segment in segments:
        start, stop = max(segment.examples.start, rows.start), min(segment.examples.stop, rows.stop)
        if start < stop:
            current_spans.append(Span(segment.task, start - rows.start, stop - rows.start))
    token = _passing.set(tuple(current_spans))
    try:
        yield
    finally:
        _passing.reset(token)


@contextmanager
def one_example_per_task(tasks: Sequence[str]) -> Iterator[None]:
    """Says that the tensors of a computation have a row for each of these tasks, rather than for each text."""
    token = _passing.set(tuple(Span(task, row, row + 1) for row, task in enumerate(tasks)))
    try:
        yield
    finally:
        _passing.reset(token)


def current_spans() -> tuple[Span, ...]:
    """The rows that pass now, by task, in their order; empty where nobody has said."""
    return _passing.get()


def expand_per_example(parameter: Tensor, rows: int) -> Tensor:
    """A parameter once for each row, (rows, *shape), without copies: whoever keeps gradients by task sees each row's."""
    own = getattr(parameter, "spread", None)
    return own(rows) if own else parameter.expand(rows, *parameter.shape)


def checkpoint_context() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """For `torch.utils.checkpoint`: layers that are computed once more hold the rows that they held the first time."""
    return nullcontext(), _Again(_passing.get())


class _Again:
    """The rows of an earlier pass; may be entered as often as a layer is computed anew."""

    def __init__(self, before: tuple[Span, ...]) -> None:
        self.before = before

    def __enter__(self) -> None:
        self._token = _passing.set(self.before)

    def __exit__(self, *_: object) -> None:
        _passing.reset(self._token)
