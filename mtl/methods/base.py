"""What every method shares: steps, losses, metrics, the optimiser. A method is a constructor and a `forward`."""

import hashlib
import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypedDict

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mtl.balancing import Balancer, Equal
from mtl.batch import Batch, Segment
from mtl.errors import UserError, did_you_mean
from mtl.methods.warm_start import start_of
from mtl.metrics import Score, mean_score, task_metrics, task_score
from mtl.modules.losses import Loss, LossName, loss_of
from mtl.modules.task_context import task_context
from mtl.regularizers import Regularizer
from mtl.tasks import Task, check_tasks
from mtl.training.hparams import keep_hyperparameters
from mtl.training.run_folder import find_checkpoint
from mtl.training.seeding import seed_step, step_seed


class Predictions(NamedTuple):
    """Every row of a split, once, in the split's order.

    Attributes:
        task: The task.
        ids: Row numbers in the split, counted from 0, shape (rows,).
        labels: Class numbers or targets, shape (rows,); -1 or NaN where a row has none.
        outputs: Class probabilities, shape (rows, classes), or values, shape (rows, 1).
        losses: Loss of each row, shape (rows,).
    """

    task: Task
    ids: Tensor
    labels: Tensor
    outputs: Tensor
    losses: Tensor


class SplitResult(TypedDict):
    """What an evaluation found on one split."""

    examples: int
    loss: float
    score: float
    metrics: dict[str, float]


class MultiTaskModule(LightningModule):
    """A method of multi-task fine-tuning; a subclass overrides `forward`.

    The loss of a step is the balancer's combination of the mean losses of the tasks present: cross-entropy for
    classification, squared error for regression.

    Args:
        tasks: The tasks.
        backbone: Name or directory of the pretrained encoder, or `NAME@REVISION`.
        balancer: How the tasks' losses become one; their plain mean where absent, unless the method says otherwise.
        lr: Highest learning rate.
        weight_decay: Decoupled weight decay; biases and norms are spared.
        warmup: Share of the optimiser's steps in which the learning rate rises linearly from 0.
        schedule: What the learning rate does then: fall linearly to 0 at the last step, or stay.
        optimizer: The optimiser's class, such as `torch.optim.Adamax`.
        optimizer_args: Its arguments beside learning rate and weight decay, such as `{eps: 1.0e-6}`; `{fused: true}`
            for AdamW where absent.
        init_from: A checkpoint, or a run's folder, whose weights the training starts from wherever they fit: the encoder, and
            heads of the same tasks, or one that they shared.
        regularizer: What is added to each task's loss, such as SMART.
        losses: For each task its loss, where it is not cross-entropy or squared error: `ordinal` or `binary` for classes,
            either with cross-entropy at once (`cross_entropy_ordinal`, `cross_entropy_binary`), `cosine` for pairs.
        score: What the run's score is, where it is not the mean over tasks of the mean of their metrics: an expression
            such as `(sst.accuracy + (sts.pearson + 1) / 2) / 2`. It selects the best checkpoint.

    Raises:
        UserError: If a task is a regression and the method is not for that, `init_from` has no weight that fits, or `losses`
            or `score` name what there is not.
    """

    takes_regression: ClassVar[bool] = True
    """Whether the method can train regression tasks."""

    takes_cosine: ClassVar[bool] = False
    """Whether the method has a head that compares a pair's two texts."""

    default_balancer: ClassVar[type[Balancer]] = Equal
    """How the tasks' losses become one where nothing else is said."""

    def __init__(
        self,
        tasks: list[Task],
        backbone: str,
        balancer: Balancer | None = None,
        lr: float = 5e-5,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        optimizer: type[Optimizer] = AdamW,
        optimizer_args: dict[str, Any] | None = None,
        schedule: Literal["linear", "constant"] = "linear",
        init_from: Path | None = None,
        regularizer: Regularizer | None = None,
        losses: dict[str, LossName] | None = None,
        score: str | None = None,
    ) -> None:
        super().__init__()
        keep_hyperparameters(self, inspect.currentframe())
        self.tasks = check_tasks(tasks)
        if not self.takes_regression and (
            found := [task.name for task in self.tasks if task.regression]
        ):
            name = type(self).__name__
            raise UserError(
                f"{name} classifies only, and {found[0]!r} is a regression; leave it out, or choose MultiHead"
            )
        self.backbone = backbone
        self.balancer = balancer or self.default_balancer()
        self.balancer.setup([task.name for task in self.tasks])
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup
        self.optimizer, self.optimizer_args = optimizer, optimizer_args
        self.regularizer = regularizer
        self.schedule, self.init_from = schedule, init_from and Path(init_from)
        self.loss_names = losses or {}
        self.task_loss = _by_task(self.loss_names, self.tasks)
        if "cosine" in self.loss_names.values() and not self.takes_cosine:
            raise UserError(
                f"losses: {type(self).__name__} has no head for cosine; choose MultiHead or what builds on it"
            )
        self.score = score and Score(score)
        self._frozen_digest: str | None = None
        self._frozen_of_a_run = (
            False  # whether weights that are not trained come from a run, not from the backbone
        )
        # Of the step under way: its batch, each task's loss, and what the regulariser added to it.
        self._batch: Batch | None = None
        self.losses: dict[str, Tensor] = {}
        self.added: dict[str, Tensor] = {}
        self.predictions: dict[str, Predictions] = {}
        self.results: dict[str, SplitResult] = {}
        self._seen: dict[str, list[tuple[Tensor, ...]]] = {}

    @property
    def backbone_name(self) -> str:
        """TEMP."""
        return self.backbone

    # The three questions that schemes, ensembles and exports ask.

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """For each task present its rows' logits, shape (rows, classes), or values, shape (rows, 1)."""

    def task_losses(self, batch: Batch) -> dict[str, Tensor]:
        """For each task present the mean loss of its rows, a scalar; under DDP the processes' mean is the batch's."""
        if regularizer := self.regularizer if torch.is_grad_enabled() else None:
            regularizer.on_step_start()
        logits = self.training_logits(batch)
        more = regularizer(self, batch, logits) if regularizer else {}
        losses, self.added = {}, {}
        for segment in batch.segments:
            rows = self.training_example_losses(segment, logits[segment.task])
            if segment.task in more:
                self.added[segment.task] = mean_loss(segment, more[segment.task]).detach()
                rows = rows + more[segment.task]
            losses[segment.task] = mean_loss(segment, rows)
        return losses

    def predict_proba(self, batch: Batch) -> dict[str, Tensor]:
        """For each task present its rows' class probabilities, shape (rows, classes), or values, shape (rows, 1)."""
        return {
            name: self._outputs(self._task(name), logits) for name, logits in self(batch).items()
        }

    # What the Trainer asks.

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One loss of all tasks present."""
        self._batch = batch
        self.balancer.on_step_start(batch, self._draw(batch_idx))
        with task_context(batch.segments, slice(0, len(batch.task_ids))):
            self.losses = losses = self.task_losses(batch)
        loss = self.combined(batch, losses)
        self.log_dict({f"loss/{name}": value for name, value in losses.items()}, batch_size=1)
        self.log_dict(
            {f"regularizer/{name}": value for name, value in self.added.items()}, batch_size=1
        )
        self.log("loss/all", loss, prog_bar=True, batch_size=1)
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """The balancer's, which may differentiate the tasks' losses one by one."""
        self.balancer.backward(loss)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keeps the rows' outputs; metrics are of whole splits."""
        self._keep(batch)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keeps the rows' outputs; metrics are of whole splits."""
        self._keep(batch)

    def predict_step(
        self, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Tensor]:
        """For each task present its rows' class probabilities or values."""
        return self._keep(batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves out what was not trained: the backbone's name and revision are kept, from which it comes."""
        for name in self._frozen() if not self._frozen_of_a_run else ():
            checkpoint["state_dict"].pop(name, None)
        checkpoint["frozen"] = None if self._frozen_of_a_run else self._frozen_digest

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes what was not trained from the backbone; a run that goes on does not start from another's weights again."""
        kept, own = checkpoint["state_dict"], self.state_dict()
        self._frozen_of_a_run = any(name in kept for name in self._frozen())
        if not self._frozen_of_a_run:
            if checkpoint.get("frozen") not in (None, self._digest_of_frozen()):
                raise UserError(
                    f"--backbone {self.backbone}: its weights are not those that the checkpoint was trained with and leaves out; "
                    "give the same directory, or NAME@REVISION"
                )
            kept |= {name: own[name] for name in self._frozen()}
        self.init_from = None

    def setup(self, stage: str) -> None:
        """Takes a fingerprint of what is not trained; here, where it is in fp32 and whole."""
        self._frozen_digest = self._digest_of_frozen()

    def on_fit_start(self) -> None:
        """Tells the balancer how large the tasks are; starts from another run's weights where that is wanted."""
        if self.score:
            predictions = self.trainer.datamodule.evaluations("fit")  # type: ignore[attr-defined]
            self.score.check(
                {evaluation.name: self.tasks[evaluation.task].metrics for evaluation in predictions}
            )
        if self.init_from is not None:
            self._start_from(self.init_from)
        self._check_batches()
        self._tell_sizes()
        self.balancer.on_fit_start(self, self.trainer.datamodule.sizes)  # type: ignore[attr-defined]
        if self.regularizer is not None:
            self.regularizer.on_fit_start(self)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seeds the step, so that a resumed run draws the same dropout as the uninterrupted one."""
        seed_step(self._seed(), self.trainer.current_epoch, batch_idx, self.trainer.global_rank)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """An update; then tells the regulariser of it, and shows the batch's new losses to a balancer that asks for them.

        Here, and not when the batch ends: a checkpoint of this step, written then, holds what they remember of it.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self.regularizer is not None:
            self.regularizer.on_step_end(
                self,
                (self.trainer.global_step + 1) / float(self.trainer.estimated_stepping_batches),
            )
        losses = {task: loss.detach() for task, loss in self.losses.items()}
        if self.balancer.recomputes_losses and self._batch is not None:
            self.on_train_batch_start(
                self._batch, batch_idx
            )  # the same dropout as before the update
            with torch.no_grad(), self.trainer.precision_plugin.forward_context():
                losses = self.task_losses(self._batch)
        self.balancer.on_step_end(losses)

    def on_train_epoch_end(self) -> None:
        """Tells the balancer."""
        self.balancer.on_epoch_end()

    def on_fit_end(self) -> None:
        """Tells the balancer."""
        self.balancer.on_fit_end()

    def on_validation_epoch_end(self) -> None:
        """Metrics of every split, and the mean score over tasks, which selects the best checkpoint."""
        # What another command finds of a checkpoint is no point of the training's curves.
        self._conclude("val" if self.trainer.state.fn == TrainerFn.FITTING else "validated")

    def on_test_epoch_end(self) -> None:
        """Metrics of every split, and the mean score over tasks."""
        self._conclude("test")

    def on_predict_epoch_end(self) -> None:
        """Puts the rows of all processes together."""
        self.predictions = self._gathered()

    def configure_optimizers(self) -> Any:
        """The optimiser, with linear warm-up and linear decay over the trainer's real number of steps."""
        args = (
            {"fused": True}
            if self.optimizer_args is None and self.optimizer is AdamW
            else self.optimizer_args or {}
        )
        optimizer = self.optimizer(parameter_groups(self, self.lr, self.weight_decay), **args)
        # A fused optimiser says that it unscales gradients itself, and Lightning then refuses to clip under AMP.
        # Without the mark the gradients are unscaled first, then clipped, then used: the same as an unfused one.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = {
            "scheduler": warmup_then(self.schedule, optimizer, round(self.warmup * steps), steps),
            "interval": "step",
        }
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    # The rest.

    def suite_score(self) -> float:
        """One number for the results: the mean over tasks, or what `score` says."""
        if self.score:
            return self.score({name: result["metrics"] for name, result in self.results.items()})
        return mean_score({name: result["score"] for name, result in self.results.items()})

    def training_logits(self, batch: Batch) -> dict[str, Tensor]:
        """What the losses are computed from: for each task present its rows' logits, shape (rows, classes), or values."""
        return self(batch)

    @property
    def reads_token_states(self) -> bool:
        """Whether something reads more of a row than the encoder's one vector."""
        return False

    @property
    def encoder_is_task_specific(self) -> bool:
        """Whether what the encoder makes of a row depends on its task; where not, several tasks may be asked of one pass."""
        return True

    def is_regression(self, task: str) -> bool:
        """Whether a task asks for a number."""
        return self._task(task).regression

    def divergences(self, segment: Segment, logits: Tensor, others: Tensor) -> Tensor:
        """How far others lie from the logits of each row of a segment, shape (len(segment.labels),).

        Kullback-Leibler of the others' class probabilities from the logits' (for a yes or no, of Bernoulli distributions),
        or the squared difference of values.
        """
        logits, others = (part[: len(segment.labels)].float() for part in (logits, others))
        return self.task_loss[segment.task].divergences(logits, others)

    def input_gradients_only(self) -> AbstractContextManager[Any]:
        """Within, a backward pass is for what passes through the model alone: no weight's gradient is computed."""
        return self.balancer.input_gradients_only()

    def example_losses(self, segment: Segment, logits: Tensor) -> Tensor:
        """The task's loss of each row that has a label, in fp32, shape (len(segment.labels),).

        Args:
            segment: The rows of one task.
            logits: Their logits or values, fillers included.
        """
        return self.task_loss[segment.task].of_rows(
            logits[: len(segment.labels)].float(), segment.labels
        )

    def training_example_losses(self, segment: Segment, logits: Tensor) -> Tensor:
        """What a step's loss is the mean of, but for the regulariser's part; a method may weigh and add, as for `example_losses`."""
        return self.example_losses(segment, logits)

    def combined(self, batch: Batch, losses: dict[str, Tensor]) -> Tensor:
        """One loss of the losses of the tasks present in a batch."""
        return self.balancer.combine(
            losses, {segment.task: segment.denominator for segment in batch.segments}
        )

    def _seed(self) -> int:
        return int(self.trainer.datamodule.seed)  # type: ignore[attr-defined]

    def _draw(self, batch_idx: int) -> int:
        """A seed for this step that all processes share."""
        return step_seed(self._seed(), self.trainer.current_epoch, batch_idx)

    def _check_batches(self) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        order = ("one", "some", "all")
        if len(self.tasks) > 1 and order.index(data.tasks_per_batch) < order.index(
            self.balancer.needs
        ):
            raise UserError(
                f"{type(self.balancer).__name__} needs batches that hold {self.balancer.needs} of the tasks, and those of "
                f"{type(data).__name__} hold {data.tasks_per_batch}; add -c configs/sampling/mixed.yaml"
            )

    def _tell_sizes(self) -> None:
        sizes = {"total": 0, "trained": 0}
        for parameter in self.parameters():
            sizes["total"] += parameter.numel()
            sizes["trained"] += parameter.numel() if parameter.requires_grad else 0
        share = sizes["trained"] / sizes["total"]
        rank_zero_info(
            f"{sizes['trained']:,} of {sizes['total']:,} parameters are trained ({share:.1%})"
        )
        for logger in self.loggers:
            logger.log_metrics(
                {f"parameters/{kind}": float(size) for kind, size in sizes.items()}, step=0
            )

    def _frozen(self) -> list[str]:
        """Names of the weights that are not trained, and come with the backbone."""
        new = {
            id(parameter)
            for module in self.modules()
            for parameter in getattr(module, "started_anew", ())
        }
        return [
            name
            for name, weight in self.named_parameters()
            if not weight.requires_grad and id(weight) not in new
        ]

    def _digest_of_frozen(self) -> str | None:
        names = self._frozen()
        digest = hashlib.sha256()
        for name in names:
            digest.update(name.encode())
            digest.update(self.get_parameter(name).detach().cpu().float().contiguous().numpy().data)
        return digest.hexdigest() if names else None

    def _start_from(self, given: Path) -> None:
        path = find_checkpoint(str(given), None, "test")
        kept = torch.load(path, map_location="cpu", weights_only=True)
        theirs: dict[str, Any] = kept.get("hyper_parameters", {})
        start = start_of(self.state_dict(), kept["state_dict"], self.tasks, theirs.get("tasks", []))
        if all(name.startswith("head") for name in start.taken):
            raise UserError(
                f"--model.init_from {given}: no weight of {path} fits this model's encoder: another backbone, or a method that "
                f"has it in other parts ({', '.join(start.left[:3])} there, {', '.join(start.anew[:3])} here)"
            )
        self.load_state_dict(start.taken, strict=False)
        self._frozen_of_a_run = any(name in start.taken for name in self._frozen())
        anew, left = (", ".join(parts) or "nothing" for parts in (start.anew, start.left))
        rank_zero_info(
            f"{len(start.taken)} tensors from {path}; starting anew: {anew}; left there: {left}"
        )
        pooling = [made.get("pooling") for made in (theirs, self.hparams)]
        if (
            None not in pooling
            and pooling[0] != pooling[1]
            and any(name.startswith("head") for name in start.taken)
        ):
            rank_zero_warn(
                f"the head comes from a model that pools by {pooling[0]}, and this one pools by {pooling[1]}"
            )

    def _task(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)

    def _outputs(self, task: Task, logits: Tensor) -> Tensor:
        return self.task_loss[task.name].outputs(logits.float())

    def _keep(self, batch: Batch) -> dict[str, Tensor]:
        logits = self(batch)
        outputs = {}
        for segment in batch.segments:
            losses = self.example_losses(segment, logits[segment.task])
            outputs[segment.task] = self._outputs(self._task(segment.task), logits[segment.task])[
                : len(segment.labels)
            ]
            kept = (segment.ids, segment.labels, outputs[segment.task], losses)
            self._seen.setdefault(batch.name, []).append(
                tuple(part.detach().cpu() for part in kept)
            )
        return outputs

    def _conclude(self, stage: str) -> None:
        self.predictions = self._gathered()
        if (
            self.trainer.sanity_checking
        ):  # a few rows of each split: enough to see that it runs, too few to score
            return
        self.results = {name: _result(rows) for name, rows in self.predictions.items()}
        for name, result in self.results.items():
            self.log_dict(
                {f"{stage}/{name}/{metric}": value for metric, value in result["metrics"].items()}
            )
            self.log(f"{stage}_loss/{name}", result["loss"])
            self.log(f"{stage}_score/{name}", result["score"])
        self.log(
            "score/mean" if stage == "val" else f"{stage}/mean", self.suite_score(), prog_bar=True
        )

    def _gathered(self) -> dict[str, Predictions]:
        """The rows kept since the last call, of all processes, in the order of their numbers."""
        seen, self._seen = self._seen, {}
        joined = {
            name: tuple(map(torch.cat, zip(*parts, strict=True))) for name, parts in seen.items()
        }
        shares: list[Any] = [joined]
        if self.trainer.world_size > 1:
            shares = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(shares, joined)
        found = {}
        for name in joined:
            ids, *others = map(torch.cat, zip(*(share[name] for share in shares), strict=True))
            place = ids.argsort()
            task = self._task(name.partition("/")[0])
            found[name] = Predictions(task, ids[place], *(part[place] for part in others))
        return found


def _by_task(losses: Mapping[str, LossName], tasks: list[Task]) -> dict[str, Loss]:
    names = [task.name for task in tasks]
    if unknown := [name for name in losses if name not in names]:
        raise UserError(
            f"losses: {unknown[0]!r} is none of the tasks {names}.{did_you_mean(unknown[0], names)}"
        )
    return {task.name: loss_of(task, losses.get(task.name)) for task in tasks}


def _result(rows: Predictions) -> SplitResult:
    metrics = task_metrics(rows.task, rows.outputs, rows.labels)
    return SplitResult(
        examples=len(rows.ids),
        loss=float(rows.losses.double().mean()),
        score=task_score(metrics),
        metrics=metrics,
    )


def parameter_groups(module: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices, which decay, and biases and norms (vectors), which do not."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups: Iterable[tuple[list[nn.Parameter], float]] = (
        ([parameter for parameter in trainable if parameter.ndim > 1], weight_decay),
        ([parameter for parameter in trainable if parameter.ndim <= 1], 0.0),
    )
    return [
        {"params": params, "lr": lr, "weight_decay": decay} for params, decay in groups if params
    ]


def warmup_then(
    schedule: Literal["linear", "constant"], optimizer: Optimizer, warmup: int, steps: int
) -> LambdaLR:
    """The learning rate as a share of its highest: linearly from 0 to 1 in `warmup` steps, then to 0 at `steps`, or 1.

    Source: Devlin et al. 2019, appendix A.2 (linear); the schedule of MT-BERT's code (constant).
    """

    def share(step: int) -> float:
        if step < warmup:
            return step / warmup
        return max(0.0, (steps - step) / max(1, steps - warmup)) if schedule == "linear" else 1.0

    return LambdaLR(optimizer, share)


def mean_loss(segment: Segment, losses: Tensor) -> Tensor:
    """The mean of a segment's losses, shape (len(segment.labels),), as far as this process has its rows."""
    return (losses * segment.weights).sum() / segment.denominator
