"""Distillation from trained single-task models, with teacher annealing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mtl.batch import Batch
from mtl.bounds import Share, check_bounds
from mtl.errors import UserError, list_words
from mtl.regularizers.base import Regularizer


class Distillation(Regularizer):
    """Learns from the outputs of trained models, the teachers, and less and less so.

    The loss of an example becomes lambda * L + (1 - lambda) * D, where L is its loss, and D the
    divergence of the prediction from the teacher's: the Kullback-Leibler divergence of the class
    probabilities (for multi-label tasks of each class, for token labels of each labelled token), or
    for values the squared difference. lambda rises linearly from 0 at the first update to 1 after
    the last (teacher annealing).

    The gradient is that of the paper's loss, whose target is lambda * label + (1 - lambda) *
    teacher's prediction: cross-entropy is linear in its target, and the squared error of a mixed
    target differs from the mixed squared errors by a constant.

    The teachers' outputs on the training examples are computed once, before the first step, and
    stored with the encoded data; no teacher is in memory during training.

    Source: Clark et al. 2019 (BAM), section 3: knowledge distillation and teacher annealing.

    Args:
        teachers: Run folders, checkpoints or exports. The teacher of a task is the one that has
            the task; all need the tokenizer of this backbone.
        label_weight: A constant lambda, in place of annealing. 1: the teachers have no effect; 0:
            the labels have none.
    """

    def __init__(
        self, teachers: list[str] | None = None, label_weight: Share | None = None
    ) -> None:
        super().__init__()
        self.teachers, self.label_weight = [Path(run) for run in teachers or ()], label_weight
        check_bounds(Distillation, vars(self), "Distillation: ")
        if not teachers:
            raise UserError(
                "Distillation: teachers: give the run folder of each task's teacher: "
                "--model.regularizer.init_args.teachers '[RUN, RUN]'"
            )
        # The outputs of each task's teacher, by task.
        self._outputs: dict[str, Any] = {}

    def on_fit_start(self, method: Any, sizes: Mapping[str, int]) -> None:
        """Computes the outputs of the teachers that are not stored, and reads them.

        Raises:
            UserError: If a task has no teacher or several, or a teacher cannot be used.
        """
        # Here: inference imports methods, and these import regularizers.
        from mtl.inference.stored_outputs import read_outputs, store_outputs, tasks_of_run

        known = {run: tasks_of_run(run) for run in self.teachers}
        data, strategy = method.scheme, method.trainer.strategy
        trained = [task for task in method.tasks if task.name in sizes]
        chosen = {task.name: self._teacher(task.name, known) for task in trained}
        for task in trained:
            if not strategy.is_global_zero:
                strategy.barrier()  # the others find what the first process has stored
            path = store_outputs(chosen[task.name], task, data, method.device)
            if strategy.is_global_zero:
                strategy.barrier()
            self._outputs[task.name] = read_outputs(path)

    def forward(self, method: Any, batch: Batch, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The difference that the teacher makes to each example's loss, by task; (examples,)."""
        share = 1 - (
            method.training_progress if self.label_weight is None else float(self.label_weight)
        )
        penalties: dict[str, Tensor] = {}
        for segment in batch.segments:
            values = logits[segment.task]
            length = values.shape[1] if values.ndim > 2 else 0
            teacher = self._outputs[segment.task](segment.ids, length)
            _check_outputs(method, segment.task, values.shape[-1], teacher.shape[-1])
            divergence = method.divergences(segment, teacher, values)
            loss = method.training_example_losses(segment, values)
            penalties[segment.task] = share * (divergence - loss)
        return penalties

    @staticmethod
    def _teacher(task: str, known: Mapping[Path, list[str]]) -> Path:
        """The only run that has the task."""
        found = [run for run, tasks in known.items() if task in tasks]
        if len(found) != 1:
            has = "no teacher" if not found else "several teachers"
            raise UserError(
                f"Distillation: teachers: {has} of task {task!r}: "
                f"{'; '.join(f'{run} has {list_words(tasks)}' for run, tasks in known.items())}. "
                "Give one for each task"
            )
        return found[0]


def _check_outputs(method: Any, task: str, own: int, of_teacher: int) -> None:
    if own != of_teacher:
        raise UserError(
            f"Distillation: {type(method).__name__} has {own} outputs for task {task!r}, its "
            f"teacher {of_teacher}; give a teacher of the same method, or choose MultiHead"
        )
