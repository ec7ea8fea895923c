"""The base class of all methods. A method is a subclass with a constructor and a `forward`."""

import inspect
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Literal

from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn, no_grad
from torch.optim import AdamW, Optimizer

from mtl.balancing import Balancer, Equal
from mtl.batch import Batch
from mtl.bounds import NonNegative, NonNegativeInt, PositiveShare, Share, check_bounds
from mtl.errors import UserError
from mtl.methods.added_tasks import (
    check_train_only,
)
from mtl.methods.attention import Attention, set_attention
from mtl.methods.evaluation import (
    EvaluatedModel,
    SplitResult,
    losses_by_task,
    scores_by_task,
)
from mtl.methods.finite import FiniteCheck, check_finite_weights
from mtl.methods.fit import (
    UpdateWindow,
    check_tasks_per_batch,
    log_parameter_counts,
    training_class_weights,
    window_factor,
)
from mtl.methods.optim import Optimization
from mtl.methods.parameter_groups import GroupOptions
from mtl.methods.run_weights import RunWeights
from mtl.methods.schedules import Schedule, ScheduleName
from mtl.modules.loss_options import LossName, LossOptions
from mtl.modules.task_context import task_context
from mtl.regularizers import Regularizer
from mtl.tasks import Task, check_tasks
from mtl.training.hparams import save_plain_hyperparameters
from mtl.training.lifecycle import TrainingHooks
from mtl.training.seeding import seed_step, step_seed


class MultiTaskModule(EvaluatedModel):
    """A method of multi-task fine-tuning; a subclass overrides `forward`.

    The loss of a step is the balancer's combination of the mean losses of the tasks present.

    Args:
        tasks: The tasks.
        backbone: Name or directory of the pretrained encoder, or `NAME@REVISION`.
        balancer: How the tasks' losses are combined; default: their mean, or the method's own.
        lr: Peak learning rate.
        weight_decay: Decoupled weight decay; not applied to biases and norms.
        warmup: Fraction of the optimizer steps with linear warm-up of the learning rate from 0.
        warmup_steps: Number of steps with warm-up, instead of `warmup`.
        optimizer: Class of the optimizer, such as `torch.optim.Adamax`.
        optimizer_args: Its arguments other than learning rate and weight decay, such as
            `{eps: 1.0e-6}`; default: `{fused: true}` for AdamW.
        schedule: Learning rate after warm-up: `linear`, `cosine` or `polynomial` decay to 0 at the
            last step, `constant`, or `inverse_sqrt`; or with an option: `{name: polynomial, power:
            2}`.
        layer_decay: Factor d of the learning rate of pretrained weights per layer: d ** (L - i) in
            layer i of L, counted from 0, and d ** (L + 1) in the embeddings.
        groups: Learning rate, weight decay and first step of the parameters whose names match a
            regular expression, such as `{heads: {lr: 1.0e-3}, embeddings: {frozen_steps: 500}}`.
        init_from: Warm start: a checkpoint, or the folder of a run, whose weights are loaded
            wherever they fit: the encoder, and heads of the same tasks or of a classifier that
            they shared.
        train_only: Names of the tasks that are added to the model of `init_from`: their own modules
            are trained on their examples, and all else stays as it is. Default: all tasks are
            trained, and everything that the method trains.
        best: What the best checkpoint holds. `run`: the weights of the validation with the best
            score. `tasks`: of each task its own modules at the task's best validation, for methods
            that train nothing else.
        attention: Implementation of attention: `eager`, `sdpa` (kernels of torch),
            `flash_attention_2`, `flex_attention`, or `packed` (sdpa without padding, on CPUs). All
            compute the same function. Default: `sdpa`
            if the backbone's family has it, else `eager`.
        regularizer: Adds to each task's loss, such as SMART.
        losses: Loss of each task that does not use cross-entropy or squared error: `ordinal` or
            `binary` for classes, each also in addition to cross-entropy (`cross_entropy_ordinal`,
            `cross_entropy_binary`); `focal` for rare classes; `cosine` for pairs. Or a loss with
            options, such as `{class_weights: balanced, label_smoothing: 0.1}`.
        score: The run's score, which selects the best checkpoint: an expression such as
            `(sst.accuracy + (sts.pearson + 1) / 2) / 2`; default: the mean over tasks of the mean
            of their metrics.

    Attributes:
        training_progress: Share of the run's optimizer updates that are done, in [0, 1].

    Raises:
        UserError: If the method does not support a task, no weight of `init_from` fits, a name
            in `losses` or `score` is unknown, or a task cannot be added without changing others.
    """

    default_balancer: ClassVar[type[Balancer]] = Equal
    """The balancer if none is given."""

    encoder_ignores_tasks: ClassVar[bool] = False
    """Whether no module inside the encoder needs the task of an example; not inherited."""

    unsupported_attention: ClassVar[Collection[Attention]] = ()
    """Implementations of attention that the method cannot use, for `attention_reason`."""

    attention_reason: ClassVar[str] = ""

    def __init__(
        self,
        tasks: list[Task],
        backbone: str,
        balancer: Balancer | None = None,
        lr: NonNegative = 5e-5,
        weight_decay: NonNegative = 0.01,
        warmup: Share = 0.1,
        warmup_steps: NonNegativeInt | None = None,
        optimizer: type[Optimizer] = AdamW,
        optimizer_args: dict[str, Any] | None = None,
        schedule: ScheduleName | Schedule = "linear",
        layer_decay: PositiveShare = 1.0,
        groups: dict[str, GroupOptions] | None = None,
        init_from: Path | None = None,
        train_only: str | list[str] | None = None,
        best: Literal["run", "tasks"] = "run",
        attention: Attention | None = None,
        regularizer: Regularizer | None = None,
        losses: dict[str, LossName | LossOptions] | None = None,
        score: str | None = None,
    ) -> None:
        super().__init__(check_tasks(tasks), losses, score)
        save_plain_hyperparameters(self, inspect.currentframe())
        check_bounds(type(self), self.hparams)
        self.backbone_name = backbone
        self.balancer = balancer or self.default_balancer()
        self.balancer.setup([task.name for task in self.tasks])
        self.regularizer = regularizer
        if attention in self.unsupported_attention:
            raise UserError(f"--model.attention {attention}: {self.attention_reason}")
        self.attention = attention
        self.optimization = Optimization(
            lr,
            weight_decay,
            warmup,
            Schedule.of(schedule),
            optimizer,
            optimizer_args,
            warmup_steps,
            layer_decay,
            {pattern: GroupOptions.of(options) for pattern, options in (groups or {}).items()},
        )
        self.train_only = check_train_only(train_only, self.tasks, init_from)
        self.run_weights = RunWeights(init_from, self.train_only, best)
        self._window = UpdateWindow()
        self._finite = FiniteCheck()
        self._batch: Batch | None = None  # of the current training step
        self.training_progress = 0.0

    @property
    def _hooked(self) -> list[TrainingHooks]:
        """The objects whose hooks are called, in this order."""
        candidates = (self.balancer, self.regularizer, self.scheme)
        return [each for each in candidates if isinstance(each, TrainingHooks)]

    @property
    def backbone(self) -> nn.Module:
        """The encoder, by the name that callbacks such as `BackboneFinetuning` look for."""
        return self.get_submodule("encoder")

    def combined(self, batch: Batch, losses: dict[str, Tensor]) -> Tensor:
        """The balancer's combination of the losses of the tasks present in a batch."""
        return self.balancer.combine(
            losses, {segment.task: segment.denominator for segment in batch.segments}
        )

    def input_gradients_only(self) -> AbstractContextManager[Any]:
        """Context manager: compute gradients with respect to inputs only."""
        return self.balancer.input_gradients_only()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The combined loss of all tasks present."""
        self._batch = batch
        # All processes share this seed.
        seed = step_seed(self.scheme.seed, self.trainer.current_epoch, batch_idx)
        for each in self._hooked:
            each.on_step_start(batch, seed)
        with task_context(batch.segments, slice(0, len(batch.task_ids))):
            self.losses = losses = self.task_losses(batch)
        self._window.add(losses)
        self._finite.add_losses(self.trainer.global_step + 1, losses)
        loss = self.combined(batch, losses)
        penalties = self.regularizer_losses.items()
        self.log_dict({f"loss/{task}": value for task, value in losses.items()}, batch_size=1)
        self.log_dict({f"regularizer/{task}": value for task, value in penalties}, batch_size=1)
        self.log("loss/all", loss, prog_bar=True, batch_size=1)
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Leaves the backward pass to the balancer, which may compute one gradient per task.

        The gradient of an update is the mean over its batches. Lightning divides each loss by
        `accumulate_grad_batches`, also in the last update of an epoch, which may have fewer.
        """
        self.balancer.backward(loss * window_factor(self.trainer))
        self.losses = {task: loss.detach() for task, loss in self.losses.items()}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stops at the first loss or gradient that is not finite."""
        self._finite.add_gradients(self)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Updates the weights, then calls the `on_step_end` hooks.

        Not in `on_train_batch_end`: the checkpoint of this step, which is written there, has to
        contain their new state.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        # Lightning counts this update after it.
        updates = self.trainer.global_step + 1
        self.training_progress = updates / float(self.trainer.estimated_stepping_batches)
        losses = self._window.close()
        for each in self._hooked:
            each.on_step_end(losses)
        if self.balancer.recomputes_losses and self._batch is not None:
            self.on_train_batch_start(self._batch, batch_idx)  # dropout as before the update
            with no_grad(), self.trainer.precision_plugin.forward_context():
                self.balancer.on_losses_recomputed(self.task_losses(self._batch))

    def configure_optimizers(self) -> Any:
        """The optimizer, and its schedule over all optimizer steps of the run."""
        return self.optimization.configure(self, self.trainer.estimated_stepping_batches)

    def setup(self, stage: str) -> None:
        """Decides which weights are trained, and how attention is computed."""
        training = stage == "fit"
        self.run_weights.setup(self, training)
        if self.attention is not None:
            set_attention(self, self.attention, training)

    def on_fit_start(self) -> None:
        """Checks score and batches, warm-starts, and calls the other `on_fit_start` hooks."""
        if self.score:
            splits = self.scheme.evaluations("fit")
            self.score.check({split.name: self.tasks[split.task].metrics for split in splits})
        self.run_weights.start(self, inspect.signature(MultiTaskModule.__init__).parameters)
        self.class_weights = training_class_weights(self.tasks, self.loss_options, self.scheme)
        check_tasks_per_batch(self.scheme, self.balancer, len(self.train_only or self.tasks))
        log_parameter_counts(self)
        sizes = self.scheme.sizes
        for each in self._hooked:
            each.on_fit_start(self, sizes)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seeds the step: a resumed run has the same dropout masks as an uninterrupted one."""
        updates = self.trainer.global_step
        self.training_progress = updates / float(self.trainer.estimated_stepping_batches)
        epoch, rank = self.trainer.current_epoch, self.trainer.global_rank
        seed_step(self.scheme.seed, epoch, batch_idx, rank)

    def on_validation_start(self) -> None:
        """Stops before the validation if a loss or a gradient was not finite."""
        if self.trainer.state.fn == TrainerFn.FITTING:
            self._finite.check(self)

    def on_validation_epoch_end(self) -> None:
        """Evaluates, then calls the hooks that follow a validation, during training only."""
        super().on_validation_epoch_end()
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            scores, losses = scores_by_task(self.latest), losses_by_task(self.latest)
            for each in self._hooked:
                each.on_validation_scores(scores)
                each.on_validation_losses(losses)

    def best_results(self, results: dict[str, SplitResult]) -> dict[str, SplitResult]:
        """The results of each task's best validation, if the best checkpoint holds its modules."""
        return self.run_weights.best_results(self, results)

    def on_train_epoch_end(self) -> None:
        """Calls the `on_epoch_end` hooks."""
        for each in self._hooked:
            each.on_epoch_end()

    def on_fit_end(self) -> None:
        """Calls the `on_fit_end` hooks."""
        for each in self._hooked:
            each.on_fit_end()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Removes the frozen weights, which the backbone restores, from the checkpoint.

        Raises:
            UserError: If a loss, a gradient or a weight is not finite: nothing is saved.
        """
        self._finite.check(self)
        check_finite_weights(self)
        self.run_weights.save(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the frozen weights; a resumed run does not apply `init_from` again."""
        self.run_weights.load(self, checkpoint, self.backbone_name)
