"""A few rows on which an export is held against what it was made of, before anybody gets it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.batch import Batch, Segment
from mtl.errors import UserError
from mtl.inference.predictor import Predictor
from mtl.methods import MultiTaskModule
from mtl.tasks import Task

# Of several lengths, so that most of them are padded; the last one is cut.
TEXTS = (
    "Good.",
    "The second half of the film drags, but its last scene makes up for it.",
    "It broke after two weeks, and nobody answered my letters.",
    "A man is playing a guitar on the street.",
    "Is there a train to the airport on Sundays?",
    "naïve café, 3.14 %, (état) - snow ☃ in June; " * 40,
)
# Largest difference of an exported model's logits from ours, both computed in double precision.
TOLERANCE = 1e-6


def texts_of(task: Task) -> list[tuple[str, ...]]:
    """Rows for a task: single texts, or pairs."""
    return [(text, TEXTS[place - 1])[: len(task.texts)] for place, text in enumerate(TEXTS)]


def batch_of(
    trained: Predictor, task: Task, texts: Sequence[tuple[str, ...]] | None = None
) -> Batch:
    """The rows of a task as its method reads them.

    Args:
        trained: The model.
        task: The task.
        texts: The rows; those of this module where absent.
    """
    return trained.answering({task.name: tuple(range(len(task.texts)))}).batch(
        texts or texts_of(task)
    )


def asked_by(tasks: Sequence[str], tokens: dict[str, Tensor], task_ids: Tensor) -> Batch:
    """A batch whose rows are asked by several tasks at once: a method that shares its encoder passes them through it once.

    Args:
        tasks: Names of the tasks.
        tokens: As in `Batch`.
        task_ids: As in `Batch`; of the last task, where a method reads them at all.
    """
    rows, length = tokens["input_ids"].shape
    none = task_ids.new_zeros(0)
    segments = tuple(
        Segment(name, slice(0, rows), none, none, none.float(), 1.0, length) for name in tasks
    )
    return Batch(tokens, task_ids, segments)


@torch.no_grad()
def logits_of(method: MultiTaskModule, batch: Batch) -> Tensor:
    """The logits of a batch of one task, (rows, outputs), in double precision; the method keeps its weights' precision."""
    kept = next(method.parameters()).dtype
    logits: Tensor = method.double()(batch)[batch.segments[0].task]
    method.to(kept)
    return logits


def refuse_differing(
    what: str, theirs: Tensor, ours: Tensor, tolerance: float = TOLERANCE
) -> float:
    """The largest difference between logits.

    Raises:
        UserError: If it is larger than the tolerance.
    """
    largest = float((theirs - ours).abs().max())
    if not largest <= tolerance:
        raise UserError(
            f"{what}: its logits differ from the run's by up to {largest:.1e}; nothing is kept of it"
        )
    return largest
