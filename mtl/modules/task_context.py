"""Tracks the task of each example in the current forward pass.

Modules deep inside an encoder receive hidden states only. They look up here which examples belong
to which task.
"""

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from mtl.batch import Segment


class Span(NamedTuple):
    """A range of consecutive examples of one task.

    Attributes:
        task: Name of the task.
        start: Index of the first example.
        stop: Index after the last example.
    """

    task: str
    start: int
    stop: int


_spans: ContextVar[tuple[Span, ...]] = ContextVar("spans", default=())

Expansion = Callable[[int], Tensor]
"""Expands a parameter to `count` examples, shape (count, *shape)."""

_expansions: MutableMapping[Tensor, Expansion] = WeakIdKeyDictionary()


@contextmanager
def task_context(segments: Sequence[Segment], examples: slice) -> Iterator[None]:
    """Context manager: declare which examples of a batch the enclosed forward pass processes.

    Args:
        segments: Segments of the complete batch.
        examples: The range of the batch that the forward pass processes.
    """
    spans = []
    for segment in segments:
        start = max(segment.examples.start, examples.start)
        stop = min(segment.examples.stop, examples.stop)
        if start < stop:
            spans.append(Span(segment.task, start - examples.start, stop - examples.start))
    with _SpanContext(tuple(spans)):
        yield


@contextmanager
def one_example_per_task(tasks: Sequence[str]) -> Iterator[None]:
    """Context manager: dimension 0 of the enclosed tensors is the task, in this order."""
    with _SpanContext(tuple(Span(task, index, index + 1) for index, task in enumerate(tasks))):
        yield


def current_spans() -> tuple[Span, ...]:
    """Returns the spans of the current forward pass, in order; empty outside a task context."""
    return _spans.get()


def register_expansion(parameter: Tensor, fn: Expansion) -> None:
    """Lets `fn` compute `expand_per_example` of a parameter, to capture its gradient per example.

    The registry holds the parameter weakly. A deep copy of the parameter is not registered.

    Args:
        parameter: The parameter.
        fn: Takes the number of examples and returns the expanded parameter, shape (count, *shape).
    """
    _expansions[parameter] = fn


def unregister_expansion(parameter: Tensor) -> None:
    """Removes the function registered for a parameter; does nothing if there is none."""
    _expansions.pop(parameter, None)


def expand_per_example(parameter: Tensor, count: int) -> Tensor:
    """Expands a parameter to `count` examples, shape (count, *shape), without copying it.

    Gradient capture registers a function here, which sees the gradient of each example separately.
    """
    registered = _expansions.get(parameter)
    return registered(count) if registered else parameter.expand(count, *parameter.shape)


def checkpoint_context() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """`context_fn` for `torch.utils.checkpoint`: layers are recomputed with the original spans."""
    return nullcontext(), _SpanContext(current_spans())


class _SpanContext:
    """Context manager: sets the current spans. Can be entered again, once per recomputed layer."""

    def __init__(self, spans: tuple[Span, ...]) -> None:
        self.spans = spans

    def __enter__(self) -> None:
        self._token = _spans.set(self.spans)

    def __exit__(self, *_: object) -> None:
        _spans.reset(self._token)
