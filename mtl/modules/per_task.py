"""Each task's rows through a part of its own."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mtl.batch import Segment
from mtl.modules.task_context import Span, current_spans
from mtl.tasks import Task


class PerTask(nn.ModuleDict):
    """One module for each task, by the task's name.

    Rows find their module by name, not by position, so another order of tasks sends no row elsewhere. A task that a
    batch lacks does not run: its module keeps its gradient None, and AdamW leaves it alone.

    Args:
        tasks: The tasks.
        make: Makes a task's module.
    """

    task_specific: ClassVar[bool] = True  # no parameter in here is shared

    def __init__(self, tasks: Sequence[Task], make: Callable[[Task], nn.Module]) -> None:
        super().__init__({task.name: make(task) for task in tasks})

    def forward(self, rows: Tensor, segments: Sequence[Segment]) -> dict[str, Tensor]:
        """What each segment's module makes of its rows, by task.

        Args:
            rows: One entry for each row of the batch, shape (B, ...).
            segments: The tasks present.
        """
        return {segment.task: self[segment.task](rows[segment.examples]) for segment in segments}

    def rows(self, tensor: Tensor) -> tuple[Span, ...]:
        """Whose rows a tensor of the pass under way holds.

        Raises:
            RuntimeError: If nobody has said, or they are others: the part is used outside its encoder's pass.
        """
        passing = current_spans()
        # Here as elsewhere not `len`, which would write one batch's size into an exported graph.
        if not passing or passing[-1].stop != tensor.shape[0]:
            raise RuntimeError(
                "whose rows these are is not known: use `with passing(batch.segments, rows):` around the encoder"
            )
        return passing

    def routed(self, rows: Tensor, *more: Tensor | None, part: str = "") -> Tensor:
        """What each task's module makes of its own of the rows that pass, in their order.

        Args:
            rows: One entry for each row, shape (rows, ...).
            more: Further arguments of the modules, of as many rows; None is passed on.
            part: Name of the modules' child that is meant; the modules themselves where empty.
        """
        parts = []
        for task, start, stop in self.rows(rows):
            others = [other if other is None else other[start:stop] for other in more]
            parts.append(self[task].get_submodule(part)(rows[start:stop], *others))
        return torch.cat(parts)
