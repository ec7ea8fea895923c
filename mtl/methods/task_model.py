"""The task side of a method: predictions and losses by task, without training or evaluation."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from mtl.batch import Batch, Segment, fitted_labels
from mtl.errors import UserError, reject_unknown
from mtl.modules.loss_options import LossName, LossOptions
from mtl.modules.task_losses import LOSSES, make_loss
from mtl.modules.thresholds import Thresholds
from mtl.regularizers import Regularizer
from mtl.tasks import Classification, MultiLabel, Regression, Task, TaskKind


class TaskModel(LightningModule):
    """Predictions and losses of a method, which schemes, regularizers and exports use.

    `EvaluatedModel` adds evaluation, and `MultiTaskModule` training.

    Args:
        tasks: The tasks.
        losses: Name or options of the loss of each task that does not use its kind's default.

    Attributes:
        regularizer: Adds to the loss of each example in training; None for no regularizer.
        loss_functions: The loss of each task by name.
        class_weights: Factor of each class's losses in training, for tasks that have such factors.
        thresholds: The tuned thresholds of multi-label tasks.
        temperatures: The temperature of each task that `mtl calibrate` has calibrated.
        losses: Loss of each task in the last training batch, with its graph until the backward
            pass.
        regularizer_losses: The regularizer's share of each of them, detached.

    Raises:
        UserError: If the method does not support the kind of a task, or a loss.
    """

    supported_kinds: ClassVar[tuple[type[TaskKind], ...]] = (
        Classification,
        Regression,
        MultiLabel,
    )
    """Kinds of tasks that the method can train."""

    supported_losses: ClassVar[frozenset[str]] = frozenset(LOSSES) - {"cosine"}
    """Losses that the method can train; `cosine` needs a head that compares a pair's two texts."""

    regularizer: Regularizer | None

    def __init__(
        self, tasks: list[Task], losses: Mapping[str, LossName | LossOptions] | None
    ) -> None:
        super().__init__()
        self.tasks = tasks
        self.loss_options = {name: LossOptions.of(loss) for name, loss in (losses or {}).items()}
        self._check_support()
        self.loss_functions = {
            task.name: make_loss(task, self.loss_options.get(task.name)) for task in tasks
        }
        self.class_weights: dict[str, Tensor] = {}
        self.thresholds = Thresholds(tasks)
        self.temperatures: dict[str, float] = {}
        self.losses: dict[str, Tensor] = {}
        self.regularizer_losses: dict[str, Tensor] = {}

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits (examples, classes) or values (examples, 1) of each task present."""

    def task_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Mean loss of each task present, a scalar.

        Under DDP, the mean over the processes is the mean loss of the complete batch.
        """
        regularizer = self.regularizer if torch.is_grad_enabled() else None
        logits = self.training_logits(batch)
        penalties = regularizer(self, batch, logits) if regularizer is not None else {}
        losses, self.regularizer_losses = {}, {}
        for segment in batch.segments:
            task = segment.task
            example_losses = self.training_example_losses(segment, logits[task])
            if task in penalties:
                self.regularizer_losses[task] = mean_loss(segment, penalties[task]).detach()
                example_losses = example_losses + penalties[task]
            losses[task] = mean_loss(segment, example_losses)
        return losses

    def predict_proba(self, batch: Batch) -> dict[str, Tensor]:
        """Class probabilities (examples, classes) or values (examples, 1) of each task present."""
        return {task: self.outputs(task, logits) for task, logits in self(batch).items()}

    def outputs(self, task: str, logits: Tensor) -> Tensor:
        """Class probabilities or values of a task from its logits, in fp32."""
        logits = self.thresholds.shifted(task, logits.float())
        outputs = self.loss_functions[task].outputs(logits)
        return scaled(outputs, self.temperatures[task]) if task in self.temperatures else outputs

    def training_logits(self, batch: Batch) -> dict[str, Tensor]:
        """Logits or values of each task present that the losses are computed from."""
        return self(batch)

    def example_losses(self, segment: Segment, logits: Tensor) -> Tensor:
        """The task's loss of each labelled example, in fp32, shape (len(segment.labels),).

        Args:
            segment: The examples of one task.
            logits: Their logits or values, fillers included.
        """
        labelled = logits[: len(segment.labels)].float()
        loss = self.loss_functions[segment.task]
        if self.training and segment.task in self.class_weights:
            weights = self.class_weights[segment.task].to(labelled)
            return loss.weighted_losses(labelled, segment.labels, weights)
        return loss.example_losses(labelled, segment.labels)

    def training_example_losses(self, segment: Segment, logits: Tensor) -> Tensor:
        """The losses that a training step averages, without the regularizer.

        A method may weight them or add terms. Arguments and shape are those of `example_losses`.
        """
        return self.example_losses(segment, logits)

    def divergences(self, segment: Segment, logits: Tensor, others: Tensor) -> Tensor:
        """Divergence of other logits from each labelled example's, shape (len(segment.labels),).

        Kullback-Leibler divergence of the class probabilities (of Bernoulli distributions for
        binary losses), or the squared difference of values.
        """
        size = len(segment.labels)
        divergences = self.loss_functions[segment.task].divergences(
            logits[:size].float(), others[:size].float()
        )
        if divergences.ndim == 1:
            return divergences
        # Of tokens: as in the loss, only those with a label count.
        labels = fitted_labels(segment.labels, divergences.shape[1])
        return divergences.where(labels >= 0, 0.0).sum(-1)

    @property
    def reads_token_states(self) -> bool:
        """Whether the method reads more of the encoder than one vector per example."""
        return False

    @property
    def encoder_is_task_specific(self) -> bool:
        """Whether the encoder's output depends on the task; if not, tasks may share a pass."""
        return True

    def _check_support(self) -> None:
        name = type(self).__name__
        for task in self.tasks:
            if type(task.kind) not in self.supported_kinds:
                raise UserError(
                    f"{name} does not support {task.kind.name} tasks such as {task.name!r}; "
                    "remove the task, or choose MultiHead"
                )
        reject_unknown(
            "--model.losses", "task", self.loss_options, [task.name for task in self.tasks]
        )
        for task_name, options in self.loss_options.items():
            loss = options.name
            if loss in LOSSES and loss not in self.supported_losses:
                raise UserError(
                    f"--model.losses: {task_name}: {name} does not support {loss!r}; choose "
                    "MultiHead or a method that builds on it, or remove the entry"
                )


def scaled(probabilities: Tensor, temperature: float) -> Tensor:
    """Class probabilities with a temperature: for a softmax, that of the logits divided by it."""
    return (probabilities.log() / temperature).softmax(-1)


def mean_loss(segment: Segment, losses: Tensor) -> Tensor:
    """Weighted sum of a segment's example losses over `Segment.denominator`, a scalar."""
    return (losses * segment.weights).sum() / segment.denominator
