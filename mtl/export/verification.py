"""Compare the logits of an exported model with those of the trained model."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.batch import Batch, Segment
from mtl.errors import UserError
from mtl.inference.predictor import Predictor
from mtl.methods import MultiTaskModule
from mtl.tasks import Task

# Texts of different lengths, so that most are padded; the last one is truncated.
SAMPLE_TEXTS = (
    "Good.",
    "The second half of the film drags, but its last scene makes up for it.",
    "It broke after two weeks, and support never answered my letters.",
    "A man is playing a guitar on the street.",
    "Is there a train to the airport on Sundays?",
    "naïve café, 3.14 %, (état) - snow ☃ in June; " * 40,
)
# Largest accepted difference between logits that are computed in double precision.
TOLERANCE = 1e-6


def sample_examples(task: Task) -> list[tuple[str, ...]]:
    """Examples for a task: single texts, or neighbouring texts."""
    count = len(SAMPLE_TEXTS)
    columns = range(len(task.text_columns))
    return [
        tuple(SAMPLE_TEXTS[(index - column) % count] for column in columns)
        for index in range(count)
    ]


def sample_batch(
    predictor: Predictor, task: Task, examples: Sequence[tuple[str, ...]] | None = None
) -> Batch:
    """Examples of one task as a batch.

    Args:
        predictor: The trained model.
        task: The task.
        examples: The texts of each example. Default: `sample_examples(task)`.
    """
    engine = predictor.engine({task.name: tuple(range(len(task.text_columns)))})
    return engine.batch(examples or sample_examples(task))


def multi_task_batch(tasks: Sequence[str], tokens: dict[str, Tensor], task_ids: Tensor) -> Batch:
    """A batch in which all tasks read the same examples, so that a shared encoder runs once.

    Args:
        tasks: Names of the tasks.
        tokens: As in `Batch`.
        task_ids: As in `Batch`. Only methods whose encoder depends on the task read them; those get
            one task at a time.
    """
    examples, length = tokens["input_ids"].shape
    empty = task_ids.new_zeros(0)
    segments = tuple(
        Segment(name, slice(0, examples), empty, empty, empty.float(), 1.0, length)
        for name in tasks
    )
    return Batch(tokens, task_ids, segments)


@torch.no_grad()
def double_precision_logits(method: MultiTaskModule, batch: Batch) -> Tensor:
    """The logits of a batch of one task, shape (examples, outputs), in double precision.

    The method's weights keep their precision.
    """
    dtype = next(method.parameters()).dtype
    task = batch.segments[0].task
    logits: Tensor = method.double()(batch)[task]
    logits = method.thresholds.shifted(task, logits)
    method.to(dtype)
    return logits


def check_difference(
    name: str, exported: Tensor, trained: Tensor, tolerance: float = TOLERANCE
) -> float:
    """Returns the largest absolute difference between two tensors of logits.

    Args:
        name: What was exported, for the message.
        exported: Logits of the exported model.
        trained: Logits of the trained model.
        tolerance: Largest accepted difference.

    Raises:
        UserError: If the difference is larger than the tolerance, or logits of the trained model
            are not finite.
    """
    if not trained.isfinite().all():
        raise UserError(
            f"{name}: the logits of the trained model are not finite: its weights are broken, or "
            "numbers overflow; nothing was written. Export another checkpoint, or train the run "
            "again"
        )
    difference = float((exported - trained).abs().max())
    if not difference <= tolerance:  # also true for NaN
        raise UserError(
            f"{name}: the logits of the export differ from those of the trained model by up to "
            f"{difference:.1e}; nothing was written. Please report this with the method and the "
            "backbone"
        )
    return difference
