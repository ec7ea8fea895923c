"""One module per task, applied to the task's examples."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Generic, cast

import torch
from torch import Tensor, nn
from typing_extensions import TypeVar

from mtl.batch import Segment
from mtl.modules.task_context import Span, current_spans
from mtl.tasks import Task

Module = TypeVar("Module", bound=nn.Module, default=nn.Module)


class PerTask(nn.ModuleDict, Generic[Module]):
    """One module per task, by the task's name.

    Modules are looked up by name, not by position, so the result does not depend on the order of
    the tasks. The module of a task that a batch does not contain does not run: its gradients stay
    None, and AdamW does not update it.

    Args:
        tasks: The tasks.
        make: Makes a task's module.
    """

    task_specific: ClassVar[bool] = True  # no parameter in here is shared

    def __init__(self, tasks: Sequence[Task], make: Callable[[Task], Module]) -> None:
        super().__init__({task.name: make(task) for task in tasks})

    def __getitem__(self, task: str) -> Module:
        """The module of a task."""
        return cast(Module, super().__getitem__(task))

    def forward(self, values: Tensor, segments: Sequence[Segment]) -> dict[str, Tensor]:
        """Applies each task's module to the task's examples.

        Args:
            values: One entry per example of the batch, shape (B, ...).
            segments: The tasks present.

        Returns:
            The outputs of each task present, by name.
        """
        return {segment.task: self[segment.task](values[segment.examples]) for segment in segments}

    def spans(self, tensor: Tensor) -> tuple[Span, ...]:
        """The task spans of a tensor of the current forward pass.

        Raises:
            RuntimeError: If no task context is active, or it does not match the tensor.
        """
        spans = current_spans()
        # `shape[0]` instead of `len`, which would turn the batch size into a constant of an
        # exported graph.
        if not spans or spans[-1].stop != tensor.shape[0]:
            raise RuntimeError(
                f"the task of each of these {tensor.shape[0]} examples is unknown: no task context "
                "for them is active; run the encoder inside "
                "`with task_context(batch.segments, examples):`"
            )
        return spans

    def apply_per_task(self, values: Tensor, *others: Tensor | None, part: str = "") -> Tensor:
        """Applies each task's module to its examples in the current forward pass.

        Args:
            values: One entry per example, shape (examples, ...).
            others: More arguments of the modules, with as many entries; None is passed on.
            part: Name of the submodule to apply; default: the modules themselves.

        Returns:
            The concatenated outputs, in the order of the examples.
        """
        outputs = []
        for task, start, stop in self.spans(values):
            arguments = [other if other is None else other[start:stop] for other in others]
            outputs.append(self[task].get_submodule(part)(values[start:stop], *arguments))
        return torch.cat(outputs)
