"""Each task's rows through a part of its own."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor, nn

from mtl.batch import Segment
from mtl.tasks import Task


class PerTask(nn.ModuleDict):
    """One module for each task, by the task's name.

    Rows find their module by name, not by position, so another order of tasks sends no row elsewhere. A task that a
    batch lacks does not run: its module keeps its gradient None, and AdamW leaves it alone.

    Args:
        tasks: The tasks.
        make: Makes a task's module.
    """

    of_tasks: ClassVar[bool] = True  # no parameter in here is shared

    def __init__(self, tasks: Sequence[Task], make: Callable[[Task], nn.Module]) -> None:
        super().__init__({task.name: make(task) for task in tasks})

    def forward(self, rows: Tensor, segments: Sequence[Segment]) -> dict[str, Tensor]:
        """What each segment's module makes of its rows, by task.

        Args:
            rows: One entry for each row of the batch, shape (B, ...).
            segments: The tasks present.
        """
        return {segment.task: self[segment.task](rows[segment.rows]) for segment in segments}
